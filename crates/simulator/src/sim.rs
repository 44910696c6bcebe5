//! The handle through which all code reaches the simulated world, and the scheduler that makes one step at a time.

use std::cell::{RefCell, RefMut};
use std::rc::Rc;

use crate::book::Book;
use crate::task::{Owner, Task};
use crate::world::SimulatedWorld;

/// The simulated world, shared by all tasks.
#[derive(Clone)]
pub(crate) struct Sim(Rc<RefCell<SimulatedWorld>>);

impl Sim {
    pub(crate) fn new(world: SimulatedWorld) -> Self {
        Self(Rc::new(RefCell::new(world)))
    }

    /// The borrowed world. It must be released before the next pause.
    pub(crate) fn world(&self) -> RefMut<'_, SimulatedWorld> {
        self.0.borrow_mut()
    }

    pub(crate) fn spawn(&self, owner: Owner, future: impl Future<Output = ()> + 'static) {
        let future = Box::pin(future);
        self.world().tasks.push(Task { owner, future });
    }

    /// Starts a task of a process that ends by itself.
    pub(crate) fn begin(&self, process: usize, future: impl Future<Output = ()> + 'static) {
        let owner = Owner {
            process,
            assignment: None,
            transient: true,
        };
        self.spawn(owner, future);
    }

    /// Makes one step.
    pub(crate) fn tick(&self) {
        let mut task = {
            let mut world = self.world();
            world.begin_tick();
            let Some(chosen) = world.pick() else {
                return;
            };
            let process = world.tasks[chosen].owner.process;
            if world.rests(process) {
                return;
            }
            world.tasks.swap_remove(chosen)
        };
        if task.resume() {
            self.world().tasks.push(task);
        }
    }

    pub(crate) fn clock(&self, process: usize) -> u64 {
        self.world().clock(process)
    }

    /// A random number of steps.
    pub(crate) fn some_steps(&self, range: std::ops::Range<usize>) -> usize {
        self.world().between(range)
    }

    /// A snapshot of the tables.
    pub(crate) fn book(&self) -> Rc<Book> {
        Rc::clone(&self.world().book)
    }
}
