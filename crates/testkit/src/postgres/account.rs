//! The user account for PostgreSQL.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};
use rustix::process::geteuid;

use crate::process::wrapped;

/// The ids of an unprivileged user.
pub(super) struct ServerUser {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl ServerUser {
    pub(super) fn run_as(&self, command: &Command) -> Command {
        let (uid, gid) = (self.uid.to_string(), self.gid.to_string());
        let arguments = ["--reuid", &uid, "--regid", &gid, "--clear-groups", "--"];
        wrapped(command, "setpriv", &arguments)
    }
}

/// The user for PostgreSQL, which refuses to run as root. None if this process does not run as root.
pub(super) fn server_user() -> Result<Option<ServerUser>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
    for name in ["postgres", "nobody"] {
        let fields = users
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>())
            .find(|fields| fields.len() > 3 && fields[0] == name);
        if let Some(fields) = fields {
            return Ok(Some(ServerUser {
                uid: fields[2].parse()?,
                gid: fields[3].parse()?,
            }));
        }
    }
    bail!("running as root, and there is no user `postgres` or `nobody` to run PostgreSQL as")
}

pub(crate) fn as_server_user(command: Command) -> Result<Command> {
    Ok(match server_user()? {
        Some(user) => user.run_as(&command),
        None => command,
    })
}
