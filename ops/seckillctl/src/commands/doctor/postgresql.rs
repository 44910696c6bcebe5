//! PostgreSQL: its version, its schema, whether a commit is durable, and whether there is a connection pooler.

use seckill_orderbook::{DatabaseServer, OrderbookError};

use super::{Findings, State, Stores, causes};

/// The oldest version that was tested.
const VERSION_TRIED: i32 = 150_000;

pub(super) async fn look(stores: &Stores) -> Findings {
    let mut findings = Findings::of("postgresql");
    let server = match stores.orderbook.server().await {
        Ok(server) => server,
        Err(error) => {
            let mend = "DATABASE_URL: docs/configuration.md";
            findings.wrong("answer", causes(&error), mend);
            return findings;
        }
    };
    about(&server, &mut findings);
    let what = "migrations";
    match stores.orderbook.check_schema().await {
        Ok(()) => findings.ok(what, "all that this version knows"),
        Err(error @ OrderbookError::SchemaBehind { .. }) => {
            findings.wrong(what, causes(&error), "seckillctl db migrate");
        }
        Err(error @ OrderbookError::SchemaHidden) => {
            findings.wrong(what, causes(&error), "psql -f ops/postgres/roles.sql");
        }
        Err(error) => {
            let mend = "the database that belongs to this version, or the version that made it";
            findings.wrong(what, causes(&error), mend);
        }
    }
    findings
}

fn about(server: &DatabaseServer, findings: &mut Findings) {
    findings.judge(
        server.version_number >= VERSION_TRIED,
        State::Risk,
        "version",
        &server.version,
        "15 or later: older ones were not tried",
    );
    findings.judge(
        !server.is_standby,
        State::Wrong,
        "role",
        if server.is_standby {
            "standby"
        } else {
            "takes writes"
        },
        "DATABASE_URL has to lead to the primary: target_session_attrs=read-write where there are several",
    );
    for (name, value) in &server.durability {
        let mend = format!("ALTER SYSTEM SET {name} = on; SELECT pg_reload_conf()");
        findings.judge(value != "off", State::Risk, name, value, &mend);
    }
    let pooler = if server.is_pooled {
        "yes: every statement is in a transaction of its own"
    } else {
        "none"
    };
    findings.ok("pooler", pooler);
}
