//! An upgrade from the previous release to this one and back, under load, with the steps of ops/runbooks/upgrade.md: no
//! order is lost, and every buyer gets an order or a planned 503.

use std::mem;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use seckill_domain::VoucherId;
use seckill_testkit::tls::text;
use seckill_testkit::{Service, TestStack, workspace_root};
use seckill_tests::{Answer, Client, Crowd, Runbook, SaleTerms, World, check_consistency};
use tokio::task::block_in_place;

use crate::kafka::order_states::the_latest_states_are_the_rows;

/// The last commit without `--check-config`, the schema registry and the topic of order states.
const PREVIOUS: &str = "096c3c1dbc92a91c047837aa43e72002971f9635";
const FORWARD: [&str; 3] = ["projector", "timeout", "ingress"];
const BACK: [&str; 3] = ["ingress", "timeout", "projector"];
/// More buyers than come to one ingress.
const BUYERS: u64 = 10_000;

fn run(program: &str, arguments: &[&str], directory: &Path) -> Result<()> {
    let mut command = Command::new(program);
    // It is built only once, so data for incremental builds would only fill the disk.
    command.env("CARGO_INCREMENTAL", "0");
    let output = command.args(arguments).current_dir(directory).output();
    let output = output.with_context(|| program.to_owned())?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {arguments:?}: {errors}");
    Ok(())
}

/// The directory with the programs of the previous release. They are kept for later runs.
fn previous() -> Result<PathBuf> {
    let source = workspace_root().join("target/previous").join(PREVIOUS);
    std::fs::create_dir_all(&source)?;
    let here = text(workspace_root());
    run("git", &["init", "--quiet"], &source)?;
    run("git", &["fetch", "--depth", "1", &here, PREVIOUS], &source)
        .context("`git fetch --unshallow` brings the commit of the previous release")?;
    run("git", &["checkout", "--quiet", PREVIOUS], &source)?;
    let build = source.join("target");
    #[rustfmt::skip]
    let cargo = [
        "build", "--locked", "--target-dir", &text(&build),
        "-p", "seckill-ingress", "-p", "seckill-projector", "-p", "seckill-timeout", "-p", "seckillctl",
    ];
    run("cargo", &cargo, &source)?;
    Ok(build.join("debug"))
}

/// Starts a service of a release.
fn start(stack: &TestStack, release: &Path, name: &str) -> Result<Service> {
    let mut spec = match name {
        "ingress" => stack.ingress(&[]),
        "projector" => stack.projector(&[]),
        _ => stack.timeout(&[]),
    }?;
    spec.binary = text(&release.join(spec.binary));
    Service::start(spec)
}

/// The running services of either release, and their buyers.
struct Shop {
    world: World,
    voucher: VoucherId,
    /// A sale whose orders expire after a second.
    lapses: VoucherId,
    crowd: Crowd,
    crowds: u64,
    answers: Vec<Answer>,
}

impl Shop {
    async fn open(release: &Path) -> Result<Self> {
        let world = block_in_place(|| -> Result<_> {
            let made_by = release.join("seckillctl");
            let stack = TestStack::builder().made_by(&made_by).start()?;
            let [projector, timeout, ingress] = FORWARD.map(|name| start(&stack, release, name));
            let ingress = ingress?;
            let setting = |name: &str| stack.setting(name).to_owned();
            Ok(World {
                client: Client::new(ingress.url(), ingress.admin_url(), setting),
                ingress,
                projector: projector?,
                timeout: timeout?,
                stack,
            })
        })?;
        let voucher = world.sale(SaleTerms::of(100_000)).await?;
        let short = SaleTerms {
            hold_seconds: 1,
            ..SaleTerms::of(100)
        };
        let lapses = world.sale(short).await?;
        let crowd = Crowd::come(std::slice::from_ref(&world.client), voucher, 1..BUYERS);
        crowd.flows(50).await?;
        Ok(Self {
            world,
            voucher,
            lapses,
            crowd,
            crowds: 1,
            answers: Vec::new(),
        })
    }

    /// Replaces one service after the other. The service of `release` is ready before the old one ends.
    async fn change_to(&mut self, release: &Path, order: [&str; 3]) -> Result<()> {
        for name in order {
            let next = block_in_place(|| start(&self.world.stack, release, name))?;
            let mut before = match name {
                "ingress" => mem::replace(&mut self.world.ingress, next),
                "projector" => mem::replace(&mut self.world.projector, next),
                _ => mem::replace(&mut self.world.timeout, next),
            };
            self.crowd.flows(50).await?;
            if name == "ingress" {
                self.send_buyers_to_the_new_ingress().await?;
            }
            let status = block_in_place(|| before.stop())?;
            ensure!(status.success(), "{status}: {}", before.log_tail());
            self.crowd.flows(50).await?;
        }
        let order = self.world.client.order(self.lapses, self.crowds, None, 1);
        let order = order.await?;
        let order_id = order.order_id().with_context(|| format!("{order:?}"))?;
        self.world
            .until_status(self.crowds, order_id, "expired")
            .await
            .map(drop)
    }

    async fn send_buyers_to_the_new_ingress(&mut self) -> Result<()> {
        self.world.client = self.world.client_of(&self.world.ingress);
        let client = std::slice::from_ref(&self.world.client);
        let first = self.crowds * BUYERS;
        let crowd = Crowd::come(client, self.voucher, first..first + BUYERS);
        let before = mem::replace(&mut self.crowd, crowd);
        self.crowds += 1;
        self.crowd.flows(50).await?;
        before.flows(50).await?;
        self.answers
            .extend(let_go(before, &self.world.client).await?);
        Ok(())
    }
}

/// Ends a crowd and returns its answers. Some of its buyers pay their orders at the current ingress.
async fn let_go(crowd: Crowd, client: &Client) -> Result<Vec<Answer>> {
    ensure!(crowd.failed() == 0, "not the answers that are planned");
    let answers = crowd.leave().await?;
    let other = answers.iter().find(|answer| answer.status != 202);
    ensure!(other.is_none(), "{other:?}");
    for answer in answers.iter().step_by(3) {
        let order_id = answer.order_id().context("an order id")?;
        let paid = client.pay(order_id, order_id, 1_000).await?;
        ensure!(paid.status == 202, "{paid:?}");
    }
    Ok(answers)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: builds the previous release"]
async fn a_release_is_rolled_out_and_back_under_load_and_no_order_is_lost() -> Result<()> {
    let (this, previous) = (Path::new(""), block_in_place(previous)?);
    let runbook = Runbook::read("upgrade.md")?;
    let blocks = runbook.blocks();
    let [before, stores, lag, after] = &blocks[..] else {
        bail!("other steps than were known: {blocks:?}");
    };
    let carry_out = |world: &World, block| block_in_place(|| runbook.run_block(world, block));
    let mut shop = Shop::open(&previous).await?;
    let told = carry_out(&shop.world, before)?;
    ensure!(told.contains("WRONG"), "nothing to be upgraded: {told}");
    carry_out(&shop.world, stores)?;
    shop.change_to(this, FORWARD).await?;
    carry_out(&shop.world, lag)?;
    shop.change_to(&previous, BACK).await?;
    shop.change_to(this, FORWARD).await?;

    let Shop { world, voucher, .. } = shop;
    let mut answers = shop.answers;
    answers.extend(let_go(shop.crowd, &world.client).await?);
    world.quiet(voucher).await?;
    world.until_carried_out().await?;
    carry_out(&world, after)?;
    the_latest_states_are_the_rows(&world).await?;
    let found = check_consistency(&world, voucher, &answers).await?;
    ensure!(found.rejected == 0 && found.paid > 0, "{found:?}");
    println!("{} orders: {found:?}", answers.len());
    Ok(())
}
