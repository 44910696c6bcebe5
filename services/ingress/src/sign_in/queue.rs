//! What waits for its turn, by client: each client's first before anybody's second. Where there is no place
//! left, whoever has the most waiting makes room.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// A queue of at most so many items. All clones are one.
#[derive(Debug)]
pub(super) struct FairQueue<T>(Arc<Inner<T>>);

#[derive(Debug)]
struct Inner<T> {
    places: usize,
    lines: Mutex<Lines<T>>,
    changed: Notify,
}

#[derive(Debug)]
struct Lines<T> {
    /// Of each client that has a place.
    by_client: HashMap<IpAddr, Line<T>>,
    /// Clients with something waiting, in the order of their turns.
    turns: VecDeque<IpAddr>,
    taken: usize,
    is_closed: bool,
}

#[derive(Debug)]
struct Line<T> {
    waiting: VecDeque<T>,
    /// Places of what is not there yet.
    reserved: usize,
}

/// A place in the queue; free again unless something is put there.
#[derive(Debug)]
pub(super) struct Place<T> {
    queue: FairQueue<T>,
    client: IpAddr,
    is_filled: bool,
}

impl<T> Clone for FairQueue<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Line<T> {
    fn len(&self) -> usize {
        self.waiting.len() + self.reserved
    }
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            reserved: 0,
        }
    }
}

impl<T> FairQueue<T> {
    pub(super) fn new(places: usize) -> Self {
        let lines = Lines {
            by_client: HashMap::new(),
            turns: VecDeque::new(),
            taken: 0,
            is_closed: false,
        };
        Self(Arc::new(Inner {
            places,
            lines: Mutex::new(lines),
            changed: Notify::new(),
        }))
    }

    /// A place for one item of a client, and whoever's newest item had to make room for it. None: nobody has
    /// more waiting than this client would have.
    pub(super) fn place(&self, client: IpAddr) -> Option<(Place<T>, Option<T>)> {
        let mut lines = self.lines();
        let mut pushed_out = None;
        if lines.taken >= self.0.places {
            pushed_out = Some(lines.make_room_for(client)?);
        }
        lines.by_client.entry(client).or_default().reserved += 1;
        lines.taken += 1;
        let place = Place {
            queue: self.clone(),
            client,
            is_filled: false,
        };
        Some((place, pushed_out))
    }

    /// The next item. None: the queue was closed and is empty.
    pub(super) async fn next(&self) -> Option<T> {
        loop {
            {
                let mut lines = self.lines();
                if let Some(item) = lines.pop() {
                    return Some(item);
                }
                if lines.is_closed && lines.taken == 0 {
                    return None;
                }
            }
            self.0.changed.notified().await;
        }
    }

    /// What has a place now is the last.
    pub(super) fn close(&self) {
        self.lines().is_closed = true;
        self.0.changed.notify_one();
    }

    fn lines(&self) -> MutexGuard<'_, Lines<T>> {
        self.0.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Lines<T> {
    fn make_room_for(&mut self, client: IpAddr) -> Option<T> {
        let own = self.by_client.get(&client).map_or(0, Line::len);
        let longest = self
            .by_client
            .iter()
            .max_by_key(|(_, line)| line.waiting.len());
        let (greediest, line) = longest?;
        if line.waiting.len() <= own + 1 {
            return None;
        }
        let greediest = *greediest;
        let newest = self.by_client.get_mut(&greediest)?.waiting.pop_back();
        self.left(greediest);
        newest
    }

    fn pop(&mut self) -> Option<T> {
        let client = self.turns.pop_front()?;
        let line = self.by_client.get_mut(&client)?;
        let item = line.waiting.pop_front();
        if !line.waiting.is_empty() {
            self.turns.push_back(client);
        }
        self.left(client);
        item
    }

    /// One place of a client is free again.
    fn left(&mut self, client: IpAddr) {
        self.taken -= 1;
        if self
            .by_client
            .get(&client)
            .is_some_and(|line| line.len() == 0)
        {
            self.by_client.remove(&client);
        }
    }
}

impl<T> Place<T> {
    /// Puts an item there.
    pub(super) fn fill(mut self, item: T) {
        self.is_filled = true;
        let mut lines = self.queue.lines();
        let line = lines.by_client.entry(self.client).or_default();
        line.reserved -= 1;
        line.waiting.push_back(item);
        if line.waiting.len() == 1 {
            lines.turns.push_back(self.client);
        }
        drop(lines);
        self.queue.0.changed.notify_one();
    }
}

impl<T> Drop for Place<T> {
    fn drop(&mut self) {
        if self.is_filled {
            return;
        }
        let mut lines = self.queue.lines();
        if let Some(line) = lines.by_client.get_mut(&self.client) {
            line.reserved -= 1;
        }
        lines.left(self.client);
        drop(lines);
        self.queue.0.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(last: u8) -> IpAddr {
        IpAddr::from([203, 0, 113, last])
    }

    /// Puts an item of a client in: the item that made room, if it was let in.
    fn put(queue: &FairQueue<u32>, last: u8, item: u32) -> Option<Option<u32>> {
        let (place, pushed_out) = queue.place(client(last))?;
        place.fill(item);
        Some(pushed_out)
    }

    async fn drain(queue: &FairQueue<u32>) -> Vec<u32> {
        queue.close();
        let mut items = Vec::new();
        while let Some(item) = queue.next().await {
            items.push(item);
        }
        items
    }

    #[tokio::test]
    async fn each_clients_first_comes_before_anybodys_second() {
        let queue = FairQueue::new(100);
        for item in [10, 11, 12] {
            assert_eq!(put(&queue, 1, item), Some(None));
        }
        put(&queue, 2, 20);
        put(&queue, 3, 30);
        put(&queue, 2, 21);
        assert_eq!(drain(&queue).await, [10, 20, 30, 11, 21, 12]);
    }

    #[tokio::test]
    async fn a_client_that_has_filled_the_queue_makes_room_for_others_and_not_for_itself() {
        let queue = FairQueue::new(4);
        for item in 10..14 {
            assert_eq!(put(&queue, 1, item), Some(None));
        }
        assert_eq!(put(&queue, 1, 14), None, "its own fifth");
        assert_eq!(put(&queue, 2, 20), Some(Some(13)), "the newest made room");
        assert_eq!(put(&queue, 3, 30), Some(Some(12)));
        assert_eq!(put(&queue, 2, 21), None, "as many as anybody");
        assert_eq!(put(&queue, 4, 40), Some(Some(11)));
        assert_eq!(put(&queue, 5, 50), None, "one each");
        assert_eq!(drain(&queue).await, [10, 20, 30, 40]);
    }

    #[tokio::test]
    async fn a_place_that_was_not_used_is_free_again() {
        let queue = FairQueue::new(1);
        let taken = queue.place(client(1));
        assert!(taken.is_some());
        assert!(queue.place(client(2)).is_none());
        drop(taken);
        assert_eq!(put(&queue, 2, 20), Some(None));
        assert_eq!(drain(&queue).await, [20]);
    }

    #[tokio::test]
    async fn a_closed_queue_waits_for_what_has_a_place() {
        let queue = FairQueue::new(2);
        let (place, _) = queue.place(client(1)).unwrap();
        queue.close();
        let rest = tokio::spawn({
            let queue = queue.clone();
            async move { queue.next().await }
        });
        tokio::task::yield_now().await;
        place.fill(10);
        assert_eq!(rest.await.unwrap(), Some(10));
        assert_eq!(queue.next().await, None);
    }
}
