//! The simulated world: processes, stores, clocks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::{Rc, Weak};

use seckill_domain::{Event, EventId, KeyHash, Offset, OrderId, PaymentId, UserId};
use seckill_stock::Ack;
use uuid::Uuid;

use crate::book::Book;
use crate::guards::Guards;
use crate::redis::{Connection, Fence, HoldersVersion, Keys, Node, Role, Stock};
use crate::task::{Owner, Task};
use crate::wire::Wire;

/// The promise deadline, in ticks.
pub(crate) const PROMISE_TICKS: u64 = 400;
/// The longest time between two counts of its replicas by a master.
pub(crate) const CRON_TICKS: u64 = 20;
/// `min-replicas-max-lag`.
pub(crate) const REPLICA_LAG_TICKS: u64 = 300;

/// The servers and the faults of a simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// One Redis, which may restart from its last snapshot.
    Single,
    /// The same, with more faults, a slow server and late retries.
    Rough,
    /// As [`Self::Rough`], and sometimes an answer is lost and the process is stopped before it asks again, also for
    /// orders without a key.
    Late,
    /// One Redis, which also loses single hashes of the sale.
    Torn,
    /// A master, a replica that may be promoted while the master still runs, and a second replica that follows one of
    /// the two.
    Pair,
    /// The same, and ingress processes refuse buyers of a sold-out sale without asking Redis.
    Crowd,
    /// As [`Self::Pair`], with Sentinels. They may also name a master again that was stopped while its successor was
    /// master.
    Sentinel,
}

impl Mode {
    /// Whether there are two servers.
    pub(crate) fn has_replica(self) -> bool {
        matches!(self, Self::Pair | Self::Crowd | Self::Sentinel)
    }
}

/// A rule that was broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Violation(pub String);

/// One process, whatever its kind.
#[derive(Default)]
pub(crate) struct Process {
    pub(crate) name: String,
    /// The tick until which it is stopped (by SIGSTOP).
    pub(crate) stopped_until: u64,
    /// The number of ticks in which it was not stopped: the time of a clock that stops with the process.
    pub(crate) ran: u64,
    pub(crate) speed: f64,
    /// Three connections: of an ingress' hot path or a projector's work, of the relay, and of the reads.
    pub(crate) stock: Stock,
    pub(crate) relay_stock: Stock,
    pub(crate) reads_stock: Stock,
    /// For an ingress: acks of events that are not removed from the outbox yet.
    pub(crate) acks: Vec<Ack>,
    pub(crate) sold_out: SoldOut,
    /// For a projector: its assignment, if it believes that it owns the partition.
    pub(crate) assignment: Option<u64>,
    /// For a projector: positions at which its watch has seen the sale open.
    pub(crate) seen: VecDeque<Offset>,
    /// For a projector: whether it is loading the sale.
    pub(crate) loading: bool,
}

/// What an ingress remembers of the sale while no unit is left.
#[derive(Default)]
pub(crate) struct SoldOut {
    /// The end of its lease, and the holders that it is for.
    pub(crate) lease: Option<(u64, HoldersVersion)>,
    /// The buyers who have ordered.
    pub(crate) holders: Option<(HoldersVersion, BTreeSet<UserId>)>,
}

/// The values that differ from seed to seed.
pub(crate) struct Tuning {
    pub(crate) slow_produce: f64,
    pub(crate) key_reuse: f64,
    pub(crate) relay_pause: std::ops::Range<usize>,
    pub(crate) relay_age: u64,
    pub(crate) most_units: usize,
}

/// The answers that were given to clients and must stay true.
#[derive(Default)]
pub(crate) struct Said {
    pub(crate) promised: BTreeSet<OrderId>,
    pub(crate) told: BTreeMap<OrderId, UserId>,
    pub(crate) unknown: BTreeSet<OrderId>,
    pub(crate) seen_paid: BTreeSet<OrderId>,
    pub(crate) payments: Vec<(PaymentId, OrderId)>,
    pub(crate) keys: BTreeMap<UserId, Vec<KeyHash>>,
    /// Offsets whose outcome was published.
    pub(crate) outcomes: BTreeSet<Offset>,
    pub(crate) loads: u64,
    /// The buyers who were told of an order, with the load of the sale that granted it.
    pub(crate) holders: BTreeSet<(Uuid, UserId)>,
    /// How many buyers were refused without asking Redis.
    pub(crate) refused_from_memory: u64,
}

pub(crate) struct SimulatedWorld {
    pub(crate) guards: Guards,
    pub(crate) mode: Mode,
    rng: fastrand::Rng,
    pub(crate) now: u64,
    last_id: u64,
    traced: bool,
    pub(crate) quiet: bool,
    pub(crate) tuning: Tuning,
    pub(crate) log: Vec<Event>,
    pub(crate) wires: Vec<Wire>,
    pub(crate) book: Rc<Book>,
    pub(crate) book_backups: Vec<Rc<Book>>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) connections: Vec<Weak<Connection>>,
    pub(crate) redis_backups: Vec<Keys>,
    /// Whether the replica replicates.
    pub(crate) linked: bool,
    /// The node that the second replica follows.
    pub(crate) third_follows: usize,
    pub(crate) processes: Vec<Process>,
    pub(crate) ingresses: usize,
    /// The projector that Kafka gave the partition to.
    pub(crate) owner: usize,
    /// Projectors that will learn that they lost it, and when.
    pub(crate) revocations: Vec<(usize, u64)>,
    pub(crate) tasks: Vec<Task>,
    pub(crate) said: Said,
    pub(crate) violation: Option<Violation>,
}

impl SimulatedWorld {
    pub(crate) fn new(seed: u64, mode: Mode, guards: Guards, traced: bool) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let tuning = Tuning {
            slow_produce: [0.0, 0.05, 0.2, 0.5][rng.usize(..4)],
            key_reuse: [0.3, 0.8][rng.usize(..2)],
            relay_pause: [3..30, 40..200][rng.usize(..2)].clone(),
            relay_age: [0, 60, 200][rng.usize(..3)],
            most_units: [1, 1, 3][rng.usize(..3)],
        };
        let ingresses = rng.usize(2..=3);
        let mut world = Self {
            guards,
            mode,
            rng,
            now: 0,
            last_id: 0,
            traced,
            quiet: false,
            tuning,
            log: Vec::new(),
            wires: Vec::new(),
            book: Rc::default(),
            book_backups: Vec::new(),
            nodes: Vec::new(),
            connections: Vec::new(),
            redis_backups: Vec::new(),
            linked: mode.has_replica(),
            third_follows: 0,
            processes: Vec::new(),
            ingresses,
            owner: ingresses,
            revocations: Vec::new(),
            tasks: Vec::new(),
            said: Said::default(),
            violation: None,
        };
        let first = Node::new('A', Role::Master, world.new_fence());
        world.nodes.push(first);
        if mode.has_replica() {
            let second = Node::new('B', Role::Replica, world.new_fence());
            world.nodes.push(second);
        }
        world.make_processes();
        world
    }

    fn make_processes(&mut self) {
        let ingresses = (0..self.ingresses).map(|n| format!("ingress{n}"));
        let others = ["projector0", "projector1", "timeout"].map(str::to_owned);
        let uneven = self.chance(0.5);
        for name in ingresses.chain(others) {
            let slow = [0.1, 0.3, 1.0, 1.0][self.rng.usize(..4)];
            self.processes.push(Process {
                name,
                speed: if uneven { slow } else { 1.0 },
                ..Process::default()
            });
        }
    }

    pub(crate) fn projectors(&self) -> [usize; 2] {
        [self.ingresses, self.ingresses + 1]
    }

    pub(crate) fn timeout(&self) -> usize {
        self.ingresses + 2
    }

    pub(crate) fn any_ingress(&mut self) -> usize {
        self.rng.usize(..self.ingresses)
    }

    pub(crate) fn masters(&self) -> Vec<usize> {
        (0..self.nodes.len())
            .filter(|&n| self.nodes[n].role == Role::Master)
            .collect()
    }

    pub(crate) fn new_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    pub(crate) fn new_event_id(&mut self) -> EventId {
        EventId::from_uuid(self.new_uuid())
    }

    pub(crate) fn new_uuid(&mut self) -> Uuid {
        Uuid::from_u128(u128::from(self.new_id()))
    }

    pub(crate) fn new_fence(&mut self) -> Fence {
        Fence {
            run_id: self.new_id(),
            replication_id: self.new_id(),
            failovers: 0,
        }
    }

    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.rng.f64() < probability
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.rng.usize(..end)
    }

    pub(crate) fn between(&mut self, range: std::ops::Range<usize>) -> usize {
        self.rng.usize(range)
    }

    pub(crate) fn choose<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        self.rng.choice(from).cloned()
    }

    /// The clock with which `process` measures deadlines.
    pub(crate) fn clock(&self, process: usize) -> u64 {
        if self.guards.boot_clock {
            self.now
        } else {
            self.processes[process].ran
        }
    }

    pub(crate) fn fail(&mut self, what: impl Into<String>) {
        let what = what.into();
        self.trace(|| format!("VIOLATION {what}"));
        self.violation.get_or_insert(Violation(what));
    }

    /// Adds a line to the trace. The line is made only if the trace is printed.
    #[allow(clippy::print_stdout, reason = "a trace is for people")]
    pub(crate) fn trace(&self, line: impl FnOnce() -> String) {
        if self.traced {
            println!("{:>6} {}", self.now, line());
        }
    }

    /// Prints to the trace what is not at rest yet.
    pub(crate) fn trace_rest(&self) {
        let (folded, effects) = (self.book.folded.get(), self.book.effects.get());
        let (end, wires) = (self.log.len(), self.wires.len());
        self.trace(|| format!("log {end}, folded {folded}, effects {effects}, {wires} appends"));
        let retired = self.book.retired;
        self.trace(|| format!("retired {retired}, {:?}", self.book.state.sale));
        for node in &self.nodes {
            self.trace(|| format!("{} {:?} {:?}", node.name, node.fence, node.keys.sale));
        }
        for task in &self.tasks {
            self.trace(|| format!("{:?}", task.owner));
        }
    }

    /// Ends tasks immediately, wherever they are.
    pub(crate) fn cancel(&mut self, ends: impl Fn(&Owner) -> bool) {
        self.tasks.retain(|task| !ends(&task.owner));
    }

    pub(crate) fn begin_tick(&mut self) {
        self.now += 1;
        let now = self.now;
        for process in &mut self.processes {
            process.ran += u64::from(process.stopped_until <= now);
        }
    }

    /// Makes the next step of the world. Returns the task that has to run next, if the step is one of a task.
    pub(crate) fn pick(&mut self) -> Option<usize> {
        let (tasks, nodes) = (self.tasks.len(), self.nodes.len());
        let replication = if nodes > 1 { 0.6 } else { 0.0 };
        let weights = [tasks as f64, 3.0 * nodes as f64, 2.0, replication];
        let mut at = self.rng.f64() * weights.iter().sum::<f64>();
        let kind = weights.iter().position(|weight| {
            at -= weight;
            at < 0.0
        });
        match kind {
            Some(0) => return Some(self.below(tasks)),
            Some(1) => {
                let node = self.below(nodes);
                self.serve(node);
            }
            Some(2) => self.land_one(),
            _ => self.replicate(),
        }
        None
    }

    fn serve(&mut self, node: usize) {
        let (now, guards) = (self.now, self.guards);
        if self.nodes[node].stopped_until > now {
            return;
        }
        self.count_replicas(node);
        self.nodes[node].serve(now, &guards);
        let sale = self.nodes[node].keys.sale.as_ref();
        if let Some(wrong) = sale.and_then(crate::redis::StoredSale::contradiction) {
            self.fail(wrong);
        }
    }

    pub(crate) fn rests(&mut self, process: usize) -> bool {
        let (stopped, speed) = {
            let process = &self.processes[process];
            (process.stopped_until > self.now, process.speed)
        };
        stopped || (speed < 1.0 && !self.quiet && !self.chance(speed))
    }
}
