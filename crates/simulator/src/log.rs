//! Kafka: an append may arrive late, twice, without an ack, or never.

use std::cell::Cell;
use std::rc::Rc;

use seckill_domain::Event;

use crate::sim::Sim;
use crate::wire::{Delivery, Fate, Wire};
use crate::world::SimulatedWorld;

impl Sim {
    pub(crate) fn produce(&self, producer: usize, event: Event) -> Delivery {
        let mut world = self.world();
        let fate = Rc::new(Cell::new(Fate::Flying));
        let slow = world.tuning.slow_produce;
        let delay = if world.chance(slow) {
            world.choose(&[100, 300, 380, 600, 1000]).unwrap_or(0)
        } else {
            0
        };
        let wire = Wire {
            event,
            producer,
            sent: world.chance(0.5),
            not_before: world.now + delay,
            fate: Rc::clone(&fate),
        };
        world.wires.push(wire);
        Delivery(fate)
    }
}

impl SimulatedWorld {
    /// Decides for one append that is under way what becomes of it.
    pub(crate) fn land_one(&mut self) {
        let now = self.now;
        let may_land = |wire: &Wire| {
            let leaves = wire.sent || self.processes[wire.producer].stopped_until <= now;
            leaves && (self.quiet || wire.not_before <= now)
        };
        let ready: Vec<usize> = (0..self.wires.len())
            .filter(|&n| may_land(&self.wires[n]))
            .collect();
        let overtakes = self.chance(0.3);
        let chosen = if overtakes {
            self.choose(&ready)
        } else {
            ready.first().copied()
        };
        if let Some(chosen) = chosen {
            let wire = self.wires.remove(chosen);
            self.land(wire);
        }
    }

    fn land(&mut self, wire: Wire) {
        let faulty = !self.quiet;
        if faulty && self.chance(0.08) {
            wire.fate.set(Fate::Unknown);
            return;
        }
        let offset = self.log.len();
        self.trace(|| {
            format!(
                "LOG {offset} {:x} {:?}",
                wire.event.event_id.as_uuid().as_u128(),
                wire.event.body
            )
        });
        let acked = !faulty || self.chance(0.92);
        wire.fate
            .set(if acked { Fate::Acked } else { Fate::Unknown });
        if faulty && self.chance(0.06) {
            self.log.push(wire.event.clone());
        }
        self.log.push(wire.event);
    }

    /// Removes the appends that a process had not sent when it died.
    pub(crate) fn lose_unsent(&mut self, producer: usize) {
        self.wires
            .retain(|wire| wire.producer != producer || wire.sent);
    }
}
