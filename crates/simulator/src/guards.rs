//! What keeps the promise, one switch each: a guard that can be switched off without anything
//! breaking is either dead or not understood.

use seckill_script_model::{Rules, switches};

switches! {
    /// The rules of the protocol, with those of the scripts. All are kept by default.
    pub struct Guards with scripts: Rules {
        // Redis' scripts.
        /// A sale that was loaded under another fence is refused.
        fence,
        /// With Sentinels, the fence counts their failovers too.
        failovers_counted,
        /// A sale of which a part was lost is refused: its hashes name the load that made them.
        parts_agree,
        /// A claim shuts the sale that it finds.
        claim_shuts,
        /// A load brings the shrinks that are decided: asked for again, they take nothing.
        decided_shrinks_loaded,
        /// A load goes on only while the claim is its own.
        claim_owned,
        // The projector.
        /// The fold's position is moved by compare-and-set.
        pg_compare_and_set,
        /// A new effects worker begins at the position of the effects, not of the fold.
        effects_position,
        /// The effects worker settles from where a sale stands that was loaded or taken over.
        catch_up,
        /// The first load of a sale begins an epoch, too; it is only spared the drain.
        first_load_begins_epoch,
        /// The flag that a sale was loaded is set before its first load.
        marked_before_load,
        /// A load waits the promise deadline after its claim.
        drain,
        /// With replicas, it also waits until a master that was cut off takes no more writes.
        drain_covers_replica_lag,
        /// A load writes its claim again after the drain: its server may still grant.
        claim_renewed,
        /// Deadlines are measured by a clock that runs on while the process is stopped.
        boot_clock,
        /// A load names the epoch that it read before its claim.
        epoch_read_before_claim,
        /// A load goes on only if the fold accepted its own epoch.
        reload_accepts_only_own,
        /// A load stops where the snapshot is not of the epoch that it began.
        load_own_epoch_only,
        /// Only a sale that Redis serves, with nothing pending, and that PostgreSQL covers is retired, both when it
        /// leaves Redis and when PostgreSQL is told.
        retire_only_served,
        /// A load of a sale that is over, and of which nothing is pending, ends with the sale retired.
        over_is_discarded,
        /// A sale that was retired is not loaded any more.
        retired_stays_out,
        /// A load grants pending orders again only of the epoch that it ends.
        regrant_current_epoch_only,
        /// What a load puts into Redis is of one position of the log.
        chunk_from_one_snapshot,
        // The fold (the domain's; switched off by what the fold is shown).
        /// A reservation of an epoch that has ended is rejected.
        epoch,
        /// A new epoch is accepted only on top of the one that its load saw.
        epoch_compare_and_set,
        // The ingress.
        /// An ack after the promise deadline makes no promise.
        promise_deadline,
        /// The promise deadline begins before the script is sent, not when it has answered.
        deadline_from_send,
        /// A repeated request is promised only what is settled.
        retry_promises_only_settled,
        /// An order without a row is called unknown only where PostgreSQL covers Redis.
        status_needs_position,
        /// The row that is not there and the position that covers it are read in one snapshot.
        status_from_one_snapshot,
        /// An order is called unknown only where Redis takes writes.
        status_from_granting_master,
        // Redis and PostgreSQL as they have to be run.
        /// A master without a replica takes no writes (`min-replicas-to-write`).
        min_replicas,
        /// A restored database knows of every sale, and that it was loaded.
        restore_knows_sales,
        /// Who demotes a master closes its clients' connections.
        demotion_kills_connections,
    }
}

impl Guards {
    /// All guards but those of these names; none when there is no such guard.
    #[must_use]
    pub fn without(names: &[&str]) -> Option<Self> {
        let mut guards = Self::default();
        let known = names.iter().all(|name| guards.switch_off(name));
        known.then_some(guards)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_switches_one_guard_off() {
        for name in Guards::names() {
            let without = Guards::without(&[name]).unwrap();
            assert_ne!(without, Guards::default(), "{name}");
        }
        assert_eq!(Guards::without(&["none"]), None);
    }
}
