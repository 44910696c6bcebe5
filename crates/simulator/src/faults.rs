//! The faults, and when they happen.

use crate::projector;
use crate::sim::Sim;
use crate::world::{Mode, SimulatedWorld};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    StopProcess,
    CrashIngress,
    CrashProjector,
    Rebalance,
    RestartRedis,
    SaveRedis,
    /// FLUSHALL: the server, its connections and its fence stay.
    FlushRedis,
    /// One of the sale's hashes is deleted or evicted, the others stay.
    LosePart,
    BackUpBook,
    RestoreBook,
    StopRedis,
    CutReplica,
    Promote,
    Demote,
    ThirdFollows,
    Relink,
    /// The newest master dies, and the Sentinels name the previous one, which was never demoted.
    NameAgain,
}

impl Fault {
    const SINGLE: [Self; 9] = [
        Self::StopProcess,
        Self::CrashIngress,
        Self::CrashProjector,
        Self::Rebalance,
        Self::RestartRedis,
        Self::SaveRedis,
        Self::FlushRedis,
        Self::BackUpBook,
        Self::RestoreBook,
    ];
    const PAIR: [Self; 9] = [
        Self::StopRedis,
        Self::CutReplica,
        Self::Promote,
        Self::Promote,
        Self::Demote,
        Self::ThirdFollows,
        Self::ThirdFollows,
        Self::Relink,
        Self::Relink,
    ];

    const ROUGH: [Self; 5] = [
        Self::StopRedis,
        Self::StopRedis,
        Self::StopProcess,
        Self::CrashProjector,
        Self::Rebalance,
    ];

    /// The kinds of faults in the history of this seed.
    pub(crate) fn some(world: &mut SimulatedWorld) -> Vec<Self> {
        let mut all = Self::SINGLE.to_vec();
        if world.mode.has_replica() {
            all.extend(Self::PAIR);
        }
        if world.mode == Mode::Sentinel {
            all.push(Self::NameAgain);
        }
        if matches!(world.mode, Mode::Rough | Mode::Late) {
            all.extend(Self::ROUGH);
        }
        if world.mode == Mode::Torn {
            all.extend([Self::LosePart, Self::LosePart]);
        }
        all.retain(|_| world.chance(0.7));
        if all.contains(&Self::RestartRedis) {
            all.push(Self::SaveRedis);
        }
        if all.contains(&Self::StopProcess) {
            all.push(Self::StopProcess);
        }
        all
    }
}

impl Sim {
    pub(crate) fn suffer(&self, fault: Fault) {
        self.world().trace(|| format!("FAULT {fault:?}"));
        match fault {
            Fault::CrashIngress => self.crash_ingress(),
            Fault::CrashProjector => self.crash_projector(),
            Fault::Rebalance => self.rebalance(),
            other => self.world().suffer(other),
        }
    }

    fn crash_ingress(&self) {
        let process = self.world().any_ingress();
        self.world().crash(process);
        crate::ingress::start(self, process);
    }

    fn crash_projector(&self) {
        let owner = {
            let mut world = self.world();
            let projectors = world.projectors();
            let process = projectors[world.below(2)];
            world.crash(process);
            process
        };
        projector::start(self, owner);
        if self.world().owner == owner {
            self.rebalance();
        }
    }

    /// Kafka gives the partition to one of the two projectors. The other one learns of it later.
    fn rebalance(&self) {
        let (old, new) = {
            let mut world = self.world();
            let projectors = world.projectors();
            (world.owner, projectors[world.below(2)])
        };
        self.world().owner = new;
        if old != new {
            let mut world = self.world();
            let at = world.now + [0, 100, 1500][world.below(3)];
            world.revocations.push((old, at));
        }
        if self.world().processes[new].assignment.is_none() {
            projector::assign(self, new);
        }
    }

    /// Tells projectors that they have lost the partition.
    pub(crate) fn revoke_due(&self) {
        let mut world = self.world();
        let (now, owner) = (world.now, world.owner);
        let quiet = world.quiet;
        let revocations = std::mem::take(&mut world.revocations);
        for (process, at) in revocations {
            if !quiet && (at > now || world.processes[process].stopped_until > now) {
                world.revocations.push((process, at));
            } else if process != owner {
                world.end_assignment(process);
            }
        }
    }
}
