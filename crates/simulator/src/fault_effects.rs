//! What each fault does to the processes and the stores.

use std::rc::Rc;

use crate::faults::Fault;
use crate::redis::{Keys, Role};
use crate::world::{CRON_TICKS, REPLICA_LAG_TICKS, SimulatedWorld};

impl SimulatedWorld {
    pub(crate) fn suffer(&mut self, fault: Fault) {
        match fault {
            Fault::StopProcess => {
                let process = self.below(self.processes.len());
                let ticks = [20, 150, 150, 400, 900, 1200][self.below(6)];
                self.processes[process].stopped_until = self.now + ticks;
                self.trace(|| format!("{} stops", self.processes[process].name));
            }
            Fault::RestartRedis => {
                let node = self.below(self.nodes.len());
                self.restart(node);
            }
            Fault::SaveRedis => {
                for node in self.masters() {
                    let keys = self.nodes[node].keys.clone();
                    self.redis_backups.push(keys);
                }
            }
            Fault::FlushRedis => {
                let masters = self.masters();
                if let Some(node) = self.choose(&masters) {
                    self.nodes[node].keys = Keys::default();
                }
            }
            Fault::LosePart => self.lose_part(),
            Fault::BackUpBook => self.book_backups.push(Rc::clone(&self.book)),
            Fault::RestoreBook => self.restore_book(),
            Fault::StopRedis => {
                let node = self.below(self.nodes.len());
                let ticks = [10, 60, 150, 400][self.below(4)];
                self.nodes[node].stopped_until = self.now + ticks;
            }
            Fault::CutReplica => self.linked = false,
            Fault::Promote => self.promote(),
            Fault::Demote => self.demote_older(),
            Fault::ThirdFollows => self.third_follows_newest(),
            Fault::Relink => self.relink(),
            Fault::NameAgain => self.name_again(),
            Fault::CrashIngress | Fault::CrashProjector | Fault::Rebalance => {}
        }
    }

    /// Removes the holds or the pending events.
    fn lose_part(&mut self) {
        let (masters, holds) = (self.masters(), self.chance(0.5));
        let chosen = self.choose(&masters);
        let sale = chosen.and_then(|node| self.nodes[node].keys.sale.as_mut());
        if let Some(stored) = sale {
            stored.torn = true;
            if holds {
                stored.contents.holds.clear();
                stored.contents.shrinks.clear();
            } else {
                stored.contents.outbox.clear();
            }
        }
    }

    /// PostgreSQL is restored without its last transactions.
    fn restore_book(&mut self) {
        let count = self.book_backups.len();
        if count == 0 {
            return;
        }
        let chosen = self.below(count);
        let knows_sales = self.guards.restore_knows_sales;
        let loaded = self.book.loaded && knows_sales;
        // Later backups contain transactions that the restored database never had.
        self.book_backups.truncate(chosen + 1);
        let backup = Rc::clone(&self.book_backups[chosen]);
        if backup.epoch().is_some() || !knows_sales {
            self.book = backup;
            Rc::make_mut(&mut self.book).loaded |= loaded;
        }
    }

    pub(crate) fn crash(&mut self, process: usize) {
        self.cancel(|owner| owner.process == process);
        self.lose_unsent(process);
        let (name, speed) = {
            let process = &self.processes[process];
            (process.name.clone(), process.speed)
        };
        self.trace(|| format!("{name} crashes"));
        self.processes[process] = crate::world::Process {
            name,
            speed,
            ..Default::default()
        };
    }

    /// Ends the workers of a projector's partition.
    pub(crate) fn end_assignment(&mut self, process: usize) {
        let Some(ended) = self.processes[process].assignment.take() else {
            return;
        };
        self.trace(|| format!("{} loses its partition", self.processes[process].name));
        self.cancel(|owner| owner.assignment == Some(ended));
        self.processes[process].loading = false;
        self.processes[process].seen.clear();
    }

    /// Restarts a server with all its data, with an older snapshot, or empty.
    fn restart(&mut self, node: usize) {
        self.nodes[node].break_connections();
        self.nodes[node].stopped_until = 0;
        self.nodes[node].fence = self.new_fence();
        if self.nodes[node].role == Role::Replica {
            self.synchronise(node);
            return;
        }
        let luck = self.below(10);
        let recent = self.redis_backups.len().saturating_sub(6);
        let backups = self.redis_backups[recent..].to_vec();
        if luck < 3 || backups.is_empty() {
            self.nodes[node].keys = Keys::default();
        } else if luck < 8 {
            self.nodes[node].keys = self.choose(&backups).unwrap_or_default();
        }
    }

    fn synchronise(&mut self, replica: usize) {
        let master = self.masters().first().copied();
        if let Some(master) = master.filter(|_| self.linked) {
            self.nodes[replica].keys = self.nodes[master].keys.clone();
        }
    }

    fn promote(&mut self) {
        let now = self.now;
        let replica = (0..self.nodes.len())
            .find(|&n| self.nodes[n].role == Role::Replica && self.nodes[n].stopped_until <= now);
        let Some(replica) = replica else {
            return;
        };
        let newest = self.nodes.iter().map(|node| node.generation).max();
        let replication_id = self.new_id();
        let node = &mut self.nodes[replica];
        node.role = Role::Master;
        node.generation = newest.unwrap_or(0) + 1;
        node.fence.replication_id = replication_id;
        node.fence.failovers = node.generation;
        node.has_replica = false;
        node.replica_seen_at = 0;
        self.linked = false;
        self.trace(|| format!("{} is promoted", self.nodes[replica].name));
    }

    /// The two masters. None unless there are exactly two.
    fn older_and_newer_master(&self) -> Option<(usize, usize)> {
        let [a, b] = self.masters()[..] else {
            return None;
        };
        let a_is_older = self.nodes[a].generation < self.nodes[b].generation;
        Some(if a_is_older { (a, b) } else { (b, a) })
    }

    fn cut_connections_to(&mut self, node: usize) {
        self.nodes[node].break_connections();
        self.connections.retain(|weak| weak.strong_count() > 0);
        let connections = self.connections.iter().filter_map(std::rc::Weak::upgrade);
        for connection in connections.filter(|connection| connection.node == node) {
            connection.cut();
        }
    }

    /// If there are two masters, the older one becomes a replica of the newer one.
    pub(crate) fn demote_older(&mut self) {
        let Some((old, new)) = self.older_and_newer_master() else {
            return;
        };
        self.nodes[old].role = Role::Replica;
        self.nodes[old].stopped_until = 0;
        self.nodes[old].fence.replication_id = self.nodes[new].fence.replication_id;
        self.linked = true;
        self.synchronise(old);
        self.trace(|| format!("{} is demoted", self.nodes[old].name));
        if self.guards.demotion_kills_connections {
            self.cut_connections_to(old);
        }
    }

    /// The Sentinels name the older master again. It still has the same run id, replication id and data. Its clients
    /// got no answers while it was stopped, so they ask the Sentinels again.
    fn name_again(&mut self) {
        let Some((old, new)) = self.older_and_newer_master() else {
            return;
        };
        let generation = self.nodes[new].generation + 1;
        self.restart(new);
        self.nodes[new].role = Role::Replica;
        self.nodes[old].generation = generation;
        self.nodes[old].stopped_until = 0;
        if self.guards.failovers_counted {
            self.nodes[old].fence.failovers = generation;
        }
        self.cut_connections_to(old);
        self.third_follows = old;
        self.relink();
        self.trace(|| format!("{} is named again", self.nodes[old].name));
    }

    pub(crate) fn third_follows_newest(&mut self) {
        let masters = self.masters();
        let newest = masters
            .into_iter()
            .max_by_key(|&n| self.nodes[n].generation);
        if let Some(newest) = newest {
            self.third_follows = newest;
        }
    }

    pub(crate) fn relink(&mut self) {
        if self.nodes.len() < 2 || self.linked || self.masters().len() != 1 {
            return;
        }
        self.linked = true;
        let replica = usize::from(self.masters() == [0]);
        let master = 1 - replica;
        self.nodes[replica].fence.replication_id = self.nodes[master].fence.replication_id;
        self.synchronise(replica);
    }

    /// The replica gets all missing writes at once.
    pub(crate) fn replicate(&mut self) {
        let now = self.now;
        let replica = (0..self.nodes.len())
            .find(|&n| self.nodes[n].role == Role::Replica && self.nodes[n].stopped_until <= now);
        if let Some(replica) = replica {
            self.synchronise(replica);
        }
    }

    /// A master counts its replicas. It does so regularly, and when it continues after a stop.
    pub(crate) fn count_replicas(&mut self, node: usize) {
        if !self.mode.has_replica() || self.nodes[node].role == Role::Replica {
            return;
        }
        let other = 1 - node;
        let replicates = self.linked
            && self.nodes[other].role == Role::Replica
            && self.nodes[other].stopped_until <= self.now;
        if replicates || self.third_follows == node {
            self.nodes[node].replica_seen_at = self.now;
        }
        let seen_at = self.nodes[node].replica_seen_at;
        let within = self.now - seen_at <= REPLICA_LAG_TICKS + CRON_TICKS;
        self.nodes[node].has_replica = seen_at > 0 && within;
    }
}
