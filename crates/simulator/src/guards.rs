//! The rules of the protocol that protect its guarantees. Each can be switched off. If a guard is off and no rule
//! breaks, the guard is either unnecessary or not understood.

use seckill_script_model::{Rules, switches};

switches! {
    /// The rules of the protocol, with those of the scripts. All are on by default.
    pub struct Guards with scripts: Rules {
        // Redis' scripts.
        /// A sale that was loaded under another fence is refused.
        fence,
        /// With Sentinels, the fence counts their failovers too.
        failovers_counted,
        /// A sale of which a part was lost is refused. This is noticed because each of its hashes names the load that
        /// made it.
        parts_agree,
        /// A claim shuts the sale that it finds.
        claim_shuts,
        /// A load contains the shrinks that are already decided, so that a repeated request does not take units again.
        decided_shrinks_loaded,
        /// A load goes on only while it still has the claim.
        claim_owned,
        // The projector.
        /// The fold's position is moved by compare-and-set.
        pg_compare_and_set,
        /// A new effects worker begins at the position of the effects, not of the fold.
        effects_position,
        /// When a sale was loaded or taken over, the effects worker settles from the sale's position on.
        catch_up,
        /// The first load of a sale begins an epoch too. It only needs no drain.
        first_load_begins_epoch,
        /// The flag that a sale was loaded is set before its first load.
        marked_before_load,
        /// After its claim a load waits until the promise deadline is over.
        drain,
        /// With replicas, it also waits until a master that was cut off accepts no more writes.
        drain_covers_replica_lag,
        /// A load writes its claim again after the drain, which shows that its server still accepts writes.
        claim_renewed,
        /// Deadlines are measured with a clock that also counts the time in which the process is stopped.
        boot_clock,
        /// A load names the epoch that it read before its claim.
        epoch_read_before_claim,
        /// A load goes on only if the fold accepted its own epoch.
        reload_accepts_only_own,
        /// A load stops if the snapshot is not of the epoch that it began.
        load_own_epoch_only,
        /// A sale is retired only if Redis serves it, nothing of it is pending, and PostgreSQL knows all its decisions.
        /// This is checked when it is removed from Redis, and again when PostgreSQL is updated.
        retire_only_served,
        /// If a sale is over and nothing of it is pending, its load ends by retiring it.
        over_is_discarded,
        /// A retired sale is not loaded again.
        retired_stays_out,
        /// A load grants pending orders again only if they are of the epoch that it ends.
        regrant_current_epoch_only,
        /// All data of a load are of the same position of the log.
        chunk_from_one_snapshot,
        // The fold. Its rules are in the domain, so they are switched off by changing the events that the fold gets.
        /// A reservation of an epoch that has ended is rejected.
        epoch,
        /// A new epoch is accepted only if the current epoch is the one that its load has read.
        epoch_compare_and_set,
        // The ingress.
        /// If the ack comes after the promise deadline, the order is not promised.
        promise_deadline,
        /// The promise deadline is measured from before the script is sent, not from its answer.
        deadline_from_send,
        /// A repeated request gets a promise only for an order that is settled.
        retry_promises_only_settled,
        /// A lease on sold-out is measured from before the script is sent, not from its answer.
        lease_from_send,
        /// A lease on sold-out is used only with the buyers who have ordered, as they were when it was given.
        lease_for_known_holders,
        /// The buyers who have ordered are read of the load of the sale that gave the lease.
        holders_of_same_load,
        /// An order without a row is called unknown only if PostgreSQL is not behind Redis.
        status_needs_position,
        /// The missing row and PostgreSQL's position are read in one snapshot.
        status_from_one_snapshot,
        /// An order is called unknown only if Redis accepts writes.
        status_from_granting_master,
        /// The server that accepts writes is in the epoch in which the order was not found.
        status_from_one_epoch,
        // How Redis and PostgreSQL have to be operated.
        /// A master without a replica refuses writes (`min-replicas-to-write`).
        min_replicas,
        /// A restored database contains every sale, and the information that it was loaded.
        restore_knows_sales,
        /// When a master is demoted, the connections of its clients are closed.
        demotion_kills_connections,
    }
}

impl Guards {
    /// All guards except those with these names. None if one of the names is unknown.
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
