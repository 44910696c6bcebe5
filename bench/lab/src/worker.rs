//! One buyer in a process of its own, which can be stopped and killed as processes are.

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::lab::{Lab, Site};
use crate::strategy::{Answer, Buyer, Strategy};

/// The subcommand of this package's program.
const SUBCOMMAND: &str = "worker";
const BUYER: Buyer = Buyer {
    user_id: 0,
    click: 0,
};

/// What such a process is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    /// The rung's name.
    pub rung: String,
    /// Where its sale is.
    pub site: Site,
}

/// What it says, a line each.
#[derive(Debug, Serialize, Deserialize)]
enum Message {
    /// Its buyer is at the gate and waits for any line.
    Caught,
    /// Its buyer has been answered, or not and why.
    Told(Result<Answer, String>),
}

/// Such a process, seen from the one that made it. Killed when dropped.
#[derive(Debug)]
pub struct LabWorker {
    process: Child,
    orders: ChildStdin,
    messages: Lines<BufReader<ChildStdout>>,
    told: Option<Result<Answer, String>>,
}

impl LabWorker {
    /// Starts it and waits until its buyer is at the gate, or was answered without coming there.
    ///
    /// # Errors
    /// When it cannot be started, or ends.
    pub async fn start(program: &Path, job: &Job) -> Result<Self> {
        let mut process = Command::new(program)
            .arg(SUBCOMMAND)
            .arg(serde_json::to_string(job)?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let orders = process.stdin.take().context("the worker's stdin")?;
        let output = process.stdout.take().context("the worker's stdout")?;
        let mut worker = Self {
            process,
            orders,
            messages: BufReader::new(output).lines(),
            told: None,
        };
        if let Message::Told(told) = worker.message().await? {
            worker.told = Some(told);
        }
        Ok(worker)
    }

    /// SIGSTOP.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn stop(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// SIGKILL, and waits for the end.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub async fn kill(&mut self) -> Result<()> {
        Ok(self.process.kill().await?)
    }

    /// Lets its buyer go on; may be said before it is resumed.
    ///
    /// # Errors
    /// When it has ended.
    pub async fn let_go(&mut self) -> Result<()> {
        self.orders.write_all(b"go\n").await?;
        Ok(self.orders.flush().await?)
    }

    /// Waits until its buyer is answered.
    ///
    /// # Errors
    /// When it ends without.
    pub async fn answer(mut self) -> Result<Result<Answer, String>> {
        loop {
            if let Some(told) = self.told {
                return Ok(told);
            }
            if let Message::Told(told) = self.message().await? {
                self.told = Some(told);
            }
        }
    }

    async fn message(&mut self) -> Result<Message> {
        let line = self.messages.next_line().await?;
        let line = line.context("the worker has ended without an answer; its error is above")?;
        serde_json::from_str(&line).with_context(|| format!("the worker says {line:?}"))
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let id = self.process.id().context("the worker has ended")?;
        let pid = Pid::from_raw(i32::try_from(id)?).context("a process id")?;
        Ok(kill_process(pid, signal)?)
    }
}

/// The life of such a process: one buyer, held at the gate until a line comes in.
///
/// # Errors
/// When a store does not answer, or the process that made this one has gone.
pub async fn run<S: Strategy>(site: Site) -> Result<()> {
    let lab = Arc::new(Lab::join(site).await?);
    let rung = S::open(Arc::clone(&lab)).await?;
    let told = tokio::select! {
        told = rung.buy(BUYER) => told,
        error = obey(&lab) => return Err(error),
    };
    say(&Message::Told(told.map_err(|failure| failure.to_string())))
}

/// Says when the buyer is at the gate, and lets it go when told to: why that did not work.
async fn obey(lab: &Lab) -> anyhow::Error {
    lab.gate.arrived(1).await;
    let told_to_go = async {
        say(&Message::Caught)?;
        let mut orders = BufReader::new(tokio::io::stdin()).lines();
        orders
            .next_line()
            .await?
            .context("nobody is there any more")
    };
    match told_to_go.await {
        Ok(_) => lab.gate.let_go(),
        Err(error) => return error,
    }
    std::future::pending().await
}

fn say(message: &Message) -> Result<()> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{}", serde_json::to_string(message)?)?;
    Ok(output.flush()?)
}
