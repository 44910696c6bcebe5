//! How fast, in Chinese.

use seckill_bench::machine::Machine;

use super::words::SpeedWords;
use crate::plan::{Load, STEADY_PER_SECOND};

pub(super) const SPEEDS: SpeedWords = SpeedWords {
    introduction,
    kinds: [
        "库存在 PostgreSQL",
        "库存在 PostgreSQL，前面有 Redis 锁",
        "库存在 Redis",
    ],
    columns: "台阶 | 接受的订单是 | 每秒接受 | p50 毫秒 | p99 毫秒 | 卖出 | 超卖 | 未卖完 | 每单 PostgreSQL 往返 | 每单 Redis 往返 | 未计入 | 错误",
    side_by_side: |load| {
        format!(
            "\n### 立即答复，还是写完订单再答复\n\n\
             所有台阶负载相同：每秒 {STEADY_PER_SECOND} 个买家，共 {} 秒，按时钟来，不等彼此的答复；每级台阶都在 HTTP 后面，由同一个客户端调用。\
             括号里是各轮的最小和最大。\n\n\
             | 台阶 | 答复买家时，订单是 | 卖出 | p50 毫秒 | p99 毫秒 | 错误 |\n",
            load.steady_s,
        )
    },
};

fn introduction(machine: &Machine, load: &Load) -> String {
    let build = if machine.optimised {
        "发布构建"
    } else {
        "调试构建"
    };
    format!(
        "\n## 有多快\n\n\
         {} 件，{} 个买家，每次 {} 个；{} 秒后不再有新买家。同类的台阶轮流测，每隔一轮顺序相反；速度是各轮的中位数，括号里是最慢和最快的一轮，这一行的其余数字属于中位的那轮。\
         没有谁断言速度。数字没有计入什么，有一列说明：各级台阶在进程内被调用，不写日志；`pipeline` 通过 HTTP 调用，日志有了订单才答复。\
         往返是整个负载的往返除以订单数，被拒绝的买家和落空的尝试都在内；对 `pipeline` 是所有服务合计的 PostgreSQL 写事务和 Redis 套接字读取。\n\n\
         测量环境：{}（{} 线程），Linux {}，PostgreSQL {}，`fsync` {}，Redis {}，`appendonly` 和 `appendfsync` {}，{build}，存储和买家在同一台机器上，\
         开始前的平均负载是 {}：台阶之间可以比较，不要和别的机器比较。\n\n\
         ![每秒接受的订单，按台阶](throughput.svg)\n",
        load.stock,
        load.buyers,
        load.concurrency,
        load.stop_after_s,
        machine.cpu,
        machine.cores,
        machine.kernel,
        machine.postgresql,
        machine.fsync,
        machine.redis,
        machine.append_only,
        machine.load_average,
    )
}
