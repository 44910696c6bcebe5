//! The local stack: `up` and `down`. Everything about it is in `target/local`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use seckill_testkit::process::{append_to, log_tail};
use seckill_testkit::wait::wait_for;
use seckill_testkit::{Env, http, workspace_root};

use crate::build::Build;
use crate::daemon::Daemon;
use crate::step::step;
use crate::{settings, stack};

const READY_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);

/// The services, with the variable that says where they answer `/readyz`.
const SERVICES: [(&str, &str); 4] = [
    ("seckill-ingress", "INGRESS_ADMIN_LISTEN"),
    ("seckill-projector", "PROJECTOR_ADMIN_LISTEN"),
    ("seckill-timeout", "TIMEOUT_ADMIN_LISTEN"),
    ("seckill-payment-simulator", "PAYMENT_SIMULATOR_LISTEN"),
];

/// A stack that is complete, ready and was started with the same binaries and settings (`wanted`: those that are not
/// generated) is left alone; any other is stopped, and all of it started. `fresh` deletes the data before.
pub(crate) fn up(build: Build, fresh: bool, wanted: &Env) -> Result<()> {
    step("services and tools built", || build.run())?;
    let directory = directory();
    let _lock = lock(&directory)?;
    let identity = identity(build, wanted)?;
    if !fresh && is_running(&directory, &identity, wanted) {
        println!("already running and ready: {}", env_file().display());
        return Ok(());
    }
    stop_all(&directory)?;
    if fresh {
        stack::delete_data(&directory)?;
    }
    if let Err(error) = start_all(build, &directory, &identity, wanted) {
        // Half a stack is of no use to anybody; the logs stay.
        if let Err(second) = stop_all(&directory) {
            eprintln!("and stopping what had started failed: {second:#}");
        }
        return Err(error);
    }
    Ok(())
}

/// Stops what `up` started, and nothing else.
pub(crate) fn down() -> Result<()> {
    let directory = directory();
    let _lock = lock(&directory)?;
    let running = all_daemons(&directory).iter().any(Daemon::is_alive);
    if !running {
        println!("nothing is running");
    }
    stop_all(&directory)
}

/// The environment of the running stack, `NAME=value` lines.
pub(crate) fn env_file() -> PathBuf {
    directory().join("env")
}

fn directory() -> PathBuf {
    workspace_root().join("target/local")
}

/// Two of us at once would start everything twice.
fn lock(directory: &Path) -> Result<File> {
    fs::create_dir_all(directory)?;
    let file = File::create(directory.join("lock"))?;
    file.try_lock()
        .context("another `cargo xtask up` or `down` is at work here")?;
    Ok(file)
}

fn start_all(build: Build, directory: &Path, identity: &str, wanted: &Env) -> Result<()> {
    let mut env = wanted.clone();
    let mail_leaves = stack::is_callers(&env, "mail");
    settings::add_secrets(&mut env, &directory.join("secrets"))?;
    settings::add_listeners(&mut env)?;
    stack::start(directory, &mut env)?;
    // For whoever reads the codes: where the mails are, if they don't leave this machine.
    if !mail_leaves {
        let mails = stack::mail_directory(directory);
        env.insert(
            "MAIL_SINK_DIRECTORY".to_owned(),
            mails.display().to_string(),
        );
    }
    step("topics created", || {
        seckillctl(build, directory, &["topics", "create"], &env)
    })?;
    step("database migrated", || {
        seckillctl(build, directory, &["db", "migrate"], &env)
    })?;
    for (name, _) in SERVICES {
        let mut command = Command::new(build.binary(name)?);
        command.envs(&env).current_dir(workspace_root());
        Daemon::new(directory, name).start(&command)?;
    }
    for (name, listener) in SERVICES {
        step(&format!("{name} ready"), || {
            wait_until_ready(directory, name, listener, &env)
        })?;
    }
    settings::mark_made_here(&mut env, wanted);
    settings::write_private(&env_file(), &settings::to_lines(&env))?;
    settings::write_private(&identity_file(directory), identity)?;
    eprintln!(
        "ready: {} (operators: {}/ops; environment: {})",
        env["INGRESS_URL"],
        env["INGRESS_ADMIN_URL"],
        env_file().display()
    );
    Ok(())
}

fn wait_until_ready(directory: &Path, name: &'static str, listener: &str, env: &Env) -> Result<()> {
    let address = settings::listener(env, listener)?;
    let daemon = Daemon::new(directory, name);
    let mut last_answer = "no answer".to_owned();
    wait_for(&format!("readiness of {name}"), READY_TIMEOUT, || {
        daemon.expect_alive()?;
        match http::get(address, "/readyz") {
            Ok((200, _)) => return Ok(Some(())),
            Ok((status, body)) => last_answer = format!("{status} {body}"),
            Err(error) => last_answer = format!("{error:#}"),
        }
        Ok(None)
    })
    .with_context(|| {
        format!(
            "http://{address}/readyz: {last_answer}\n{}",
            daemon.log_tail()
        )
    })
}

/// Runs `seckillctl` to its end, its output to a log.
fn seckillctl(build: Build, directory: &Path, arguments: &[&str], env: &Env) -> Result<()> {
    let log = directory.join("logs/seckillctl.log");
    let output = append_to(&log)?;
    let mut child = Command::new(build.binary("seckillctl")?)
        .args(arguments)
        .envs(env)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
        .context("cannot run seckillctl")?;
    let what = format!("end of seckillctl {}", arguments.join(" "));
    let status = match wait_for(&what, COMMAND_TIMEOUT, || Ok(child.try_wait()?)) {
        Ok(status) => status,
        Err(error) => {
            child.kill()?;
            child.wait()?;
            return Err(error.context(log_tail(&log)));
        }
    };
    ensure!(status.success(), "{status}\n{}", log_tail(&log));
    Ok(())
}

fn stop_all(directory: &Path) -> Result<()> {
    for file in [env_file(), identity_file(directory)] {
        if file.exists() {
            fs::remove_file(file)?;
        }
    }
    let running: Vec<Daemon> = all_daemons(directory)
        .into_iter()
        .filter(Daemon::is_alive)
        .collect();
    let names: Vec<&str> = running.iter().map(|daemon| daemon.name).collect();
    if names.is_empty() {
        return Ok(());
    }
    step(&format!("stopped: {}", names.join(", ")), || {
        // The services first, while there is something to drain into.
        let services = SERVICES.map(|(name, _)| Daemon::new(directory, name));
        for service in &services {
            service.signal(Signal::TERM)?;
        }
        for service in &services {
            service.wait_until_gone(STOP_TIMEOUT)?;
        }
        stack::stop(directory)
    })
}

fn all_daemons(directory: &Path) -> Vec<Daemon> {
    let services = SERVICES.map(|(name, _)| Daemon::new(directory, name));
    let stores = stack::daemons(directory).map(|(daemon, _)| daemon);
    services.into_iter().chain(stores).collect()
}

fn is_running(directory: &Path, identity: &str, wanted: &Env) -> bool {
    let Ok(env) = settings::read_env(&env_file()) else {
        return false;
    };
    let same =
        fs::read_to_string(identity_file(directory)).is_ok_and(|started| started == identity);
    // A store that the caller brought has no process of ours; the services' readiness covers it.
    let alive = all_daemons(directory)
        .iter()
        .all(|daemon| daemon.is_alive() || stack::is_callers(wanted, daemon.name));
    let ready = SERVICES.iter().all(|(_, listener)| {
        settings::listener(&env, listener).is_ok_and(seckill_testkit::service::is_ready)
    });
    same && alive && ready
}

fn identity_file(directory: &Path) -> PathBuf {
    directory.join("run/started-with")
}

/// What a running stack must have been started with to be left alone: the same binaries, the same settings.
fn identity(build: Build, wanted: &Env) -> Result<String> {
    let mut text = settings::to_lines(wanted);
    for (name, _) in SERVICES {
        let binary = build.binary(name)?;
        let built = fs::metadata(&binary)?.modified()?;
        text += &format!("{} {built:?}\n", binary.display());
    }
    Ok(text)
}
