//! The page in Chinese: the same headings, code, links and figures as the English one (`tests/architecture/main.rs`).

use super::words::Words;
use crate::scenario::{Scenario, Verdict};
use crate::strategy::{Accepted, Card};

pub(super) const CHINESE: Words = Words {
    introduction: INTRODUCTION,
    what_breaks: "什么会打破什么",
    somewhere: "只对其中一部分有意义的场景：",
    rung: "台阶",
    rungs: "各级台阶",
    columns: "场景 | 结论 | 卖出 | 超卖 | 未卖完 | 永远卖不掉 | 已承诺但没有订单 | 重复 | 错误",
    scenario,
    verdict,
    card,
    accepted,
    leaves_out: "HTTP、日志",
    of: |sold, stock| format!("{sold} / {stock}"),
    speeds: super::chinese_speeds::SPEEDS,
};

const INTRODUCTION: &str = "\
# 超卖实验室

[English](README.md) · [techniques.md](techniques.md) 从每种技术的名字（悲观锁、乐观锁、`SETNX`、看门狗、红锁、分段库存、预扣减）找到它的台阶，并说明什么时候用哪一种。

写秒杀的人都爬同一架梯子：先查后改、加锁、事务、版本号、Redis 锁、队列、脚本。每一级台阶都是 `bench/lab/src/rungs/` 下的一个文件；
一条命令就在真实的 PostgreSQL 和 Redis 上运行全部台阶，能打破的就打破，并说明是怎么打破的。

```sh
cargo run --release -p seckill-lab -- run --output lab.json     # six minutes; --quick: two
cargo run --release -p seckill-lab -- render lab.json           # this page
```

下面的结果都不靠运气。每级台阶在要害处（读和写之间，或两个存储之间）有一道*门*，每个场景在门前放上不同的东西：

| 场景 | 做了什么 |
| --- | --- |
| 竞争 | 8 个买家抢 2 件；全部到门前才放行，最多等 200 毫秒 |
| 停顿 | 第一个买家在自己的进程里，在门前收到 SIGSTOP，三秒后收到 SIGCONT（像垃圾回收的停顿）；Redis 里的租约只有它的四分之一长；`--quick`：半秒 |
| 死亡 | 同样停住，然后收到 SIGKILL |
| 重启 | 第一个买家在门前时，Redis 被杀死，回来时只有开卖时的数据：像故障转移之后，或每秒同步一次的追加文件；五台里的三台 |
| 时钟跳变 | 第一个买家在门前时，Redis 的时钟向前跳，五台里的三台。做法是让所有租约到期（`PEXPIRE key 0`），跳变对它们的作用正是如此 |
| 连点 | 一个用户同时点两次，然后再点一次；4 件 |
| 刚好 | 40 个买家买 40 件，每次 10 个，门前没有任何东西：人人都该买到 |

以及只用于与之有关的台阶：

| 场景 | 做了什么 |
| --- | --- |
| 两个进程 | 同一用户在两个进程里的点击都到了门前，谁也没先走；然后其他人来 |
| 慢工 | 第一个买家在自己的进程里，在门前干三秒活，而且活着；租约只有一秒 |
| 迟放锁 | 第一个买家活已干完，站在放锁之前（分两条命令时在 GET 和 DEL 之间）；它的租约到期，第二个拿着锁到了门前；第一个放锁；第三个来了，等它也进来了或被拒绝过，第二个才继续 |
| 两台死、三台死 | 竞争，五台 Redis 中死了两台或三台 |
| 一千 | 1,000 个买家买 1,000 件，每次 10 个，随机选二十个分段之一 |
| 连接池 | 通过 HTTP 的 1,000 个请求，每次 200 个（`ab -n 1000 -c 200`），20 条 PostgreSQL 连接，买家最多等 250 毫秒；第一个买家停在门前，直到所有拿不到连接的人都被打发走 |

结论取最坏的：*超卖*（订单比件数多）、*重复*（一人多单）、*丢单*（告诉买家买到了，却没有订单）、*死锁*（被数据库杀掉的买家）、*堵死*（有货，谁也进不去）、
*丢货*（有货，永远卖不掉）、*搁置*（有货时把买家打发走；后来的人买得到）、*安全*。括号里是订单数和件数。横线：它对这级台阶没有意义。斜体的结论取决于时机，
是这次运行所见；其余每一个都由 `bench/lab/tests/verdicts.rs` 断言。
";

fn scenario(scenario: Scenario) -> &'static str {
    match scenario {
        Scenario::Race => "竞争",
        Scenario::Pause => "停顿",
        Scenario::Death => "死亡",
        Scenario::Restart => "重启",
        Scenario::ClockStep => "时钟跳变",
        Scenario::TwoProcesses => "两个进程",
        Scenario::SlowWork => "慢工",
        Scenario::LateRelease => "迟放锁",
        Scenario::TwoDead => "两台死",
        Scenario::ThreeDead => "三台死",
        Scenario::Thousand => "一千",
        Scenario::Pool => "连接池",
        Scenario::DoubleClick => "连点",
        Scenario::Exact => "刚好",
        Scenario::Load => "负载",
        Scenario::Steady => "匀速",
    }
}

fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Oversells => "超卖",
        Verdict::LosesOrders => "丢单",
        Verdict::Duplicates => "重复",
        Verdict::Deadlocks => "死锁",
        Verdict::Blocks => "堵死",
        Verdict::LosesUnits => "丢货",
        Verdict::Strands => "搁置",
        Verdict::Safe => "安全",
    }
}

fn accepted(accepted: Accepted) -> &'static str {
    match accepted {
        Accepted::Row => "一行",
        Accepted::Entry => "Redis 里的一条",
        Accepted::Record => "日志里的一条记录",
    }
}

fn card(card: &Card) -> Option<(&'static str, &'static str)> {
    super::chinese_cards::CARDS
        .iter()
        .find(|(name, _, _)| *name == card.name)
        .map(|(_, title, story)| (*title, *story))
}
