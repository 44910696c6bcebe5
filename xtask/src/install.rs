//! What the stack needs from the machine.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::geteuid;
use seckill_testkit::{clock, kafka, pgbouncer, postgres, python};

use crate::step::step;

const MIN_JAVA_VERSION: u32 = 17;

/// Packages that start a daemon do so on installation; ours are started by us, on ports of their own.
/// `policy-rc.d` is Debian's way to forbid it. A machine that has one keeps its own.
const APT_SCRIPT: &str = r#"set -e
export DEBIAN_FRONTEND=noninteractive
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod +x "$policy"
fi
apt-get -q -o DPkg::Lock::Timeout=120 update
apt-get -q -o DPkg::Lock::Timeout=120 install -y --no-install-recommends "$@"
"#;

struct Need {
    what: &'static str,
    /// Debian's name.
    package: &'static str,
    is_there: fn() -> bool,
}

const NEEDS: [Need; 15] = [
    Need {
        what: "redis-server",
        package: "redis-server",
        is_there: || is_in_path("redis-server"),
    },
    Need {
        what: "PostgreSQL's server programs",
        package: "postgresql",
        is_there: || {
            ["initdb", "postgres", "psql"]
                .map(postgres::program)
                .iter()
                .all(Result::is_ok)
        },
    },
    Need {
        what: "Java 17 or newer",
        package: "default-jre-headless",
        is_there: || java_version().is_some_and(|version| version >= MIN_JAVA_VERSION),
    },
    Need {
        what: "Maven",
        package: "maven",
        is_there: || is_in_path("mvn"),
    },
    Need {
        what: "a C compiler",
        package: "gcc",
        is_there: || is_in_path("cc"),
    },
    Need {
        what: "make",
        package: "make",
        is_there: || is_in_path("make"),
    },
    Need {
        what: "zlib's headers",
        package: "zlib1g-dev",
        is_there: || Path::new("/usr/include/zlib.h").exists(),
    },
    Need {
        what: "OpenSSL's headers, for librdkafka",
        package: "libssl-dev",
        is_there: || Path::new("/usr/include/openssl/ssl.h").exists(),
    },
    Need {
        what: "pkg-config, which finds them",
        package: "pkg-config",
        is_there: || is_in_path("pkg-config"),
    },
    Need {
        what: "libfaketime, for tests of wrong clocks",
        package: "faketime",
        is_there: || clock::library().is_some(),
    },
    Need {
        what: "PgBouncer",
        package: "pgbouncer",
        is_there: || pgbouncer::program().is_ok(),
    },
    Need {
        what: "Prometheus and promtool, for tests of the alerts and of the dashboards",
        package: "prometheus",
        is_there: || is_in_path("prometheus") && is_in_path("promtool"),
    },
    // The pages' tests.
    Need {
        what: "Chromium",
        package: "chromium",
        is_there: || is_in_path("chromium"),
    },
    Need {
        what: "Chromium's WebDriver",
        package: "chromium-driver",
        is_there: || is_in_path("chromedriver"),
    },
    Need {
        what: "Python 3.11 or newer with venv",
        package: "python3-venv",
        is_there: python::is_usable,
    },
];

/// Installs what is missing, or with `only_report` fails if anything is.
pub(crate) fn run(only_report: bool) -> Result<()> {
    let missing: Vec<&Need> = NEEDS.iter().filter(|need| !(need.is_there)()).collect();
    if only_report {
        return report(&missing);
    }
    if !missing.is_empty() {
        step("packages installed", || install(&missing))?;
    }
    if !kafka::jars_are_installed() {
        step("Kafka's jars fetched", kafka::install_jars)?;
    }
    if !python::packages_are_installed() {
        step("Python packages installed", python::install_packages)?;
    }
    Ok(())
}

fn report(missing: &[&Need]) -> Result<()> {
    ensure!(missing.is_empty(), "{}", instructions(missing));
    ensure!(
        kafka::jars_are_installed(),
        "Kafka's jars are missing: `cargo xtask install` fetches them with Maven"
    );
    ensure!(
        python::packages_are_installed(),
        "the tests' Python packages are missing: `cargo xtask install` fetches them with pip"
    );
    Ok(())
}

fn instructions(missing: &[&Need]) -> String {
    let what: Vec<&str> = missing.iter().map(|need| need.what).collect();
    format!(
        "missing: {}; on Debian or Ubuntu: apt-get install --no-install-recommends {}",
        what.join(", "),
        packages(missing).join(" ")
    )
}

fn packages(missing: &[&Need]) -> Vec<&'static str> {
    missing.iter().map(|need| need.package).collect()
}

fn install(missing: &[&Need]) -> Result<()> {
    ensure!(is_in_path("apt-get"), "{}", instructions(missing));
    let mut command = if geteuid().is_root() {
        Command::new("sh")
    } else if succeeds(Command::new("sudo").args(["-n", "true"])) {
        let mut sudo = Command::new("sudo");
        sudo.args(["-n", "sh"]);
        sudo
    } else {
        bail!(
            "neither root nor sudo without a password; {}",
            instructions(missing)
        );
    };
    let packages = packages(missing);
    eprintln!("installing {} with apt-get", packages.join(", "));
    let output = command
        .args(["-c", APT_SCRIPT, "apt"])
        .args(&packages)
        .stdin(Stdio::null())
        .output()
        .context("cannot run sh")?;
    if !output.status.success() {
        let (log, errors) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        bail!("apt-get: {}\n{log}{errors}", output.status);
    }
    let still: Vec<&Need> = NEEDS.iter().filter(|need| !(need.is_there)()).collect();
    ensure!(
        still.is_empty(),
        "after installing, {}",
        instructions(&still)
    );
    Ok(())
}

fn is_in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn java_version() -> Option<u32> {
    let output = Command::new("java").arg("-version").output().ok()?;
    major_version(&String::from_utf8_lossy(&output.stderr))
}

/// `openjdk version "17.0.15" 2025-04-15` is 17; a plain `21` is 21; `1.8.0` is 1, which is old enough.
fn major_version(text: &str) -> Option<u32> {
    let quoted = text.split('"').nth(1)?;
    quoted.split(['.', '-', '+']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn javas_version_is_read_from_what_it_prints() {
        assert_eq!(
            major_version("openjdk version \"17.0.15\" 2025-04-15\n"),
            Some(17)
        );
        assert_eq!(
            major_version("openjdk version \"21\" 2023-09-19\n"),
            Some(21)
        );
        assert_eq!(major_version("java version \"1.8.0_301\"\n"), Some(1));
        assert_eq!(major_version("command not found"), None);
    }
}
