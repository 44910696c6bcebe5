//! The input of one step of a fold: a range of records of one partition, decoded.

use crate::{Event, Offset, OrderId, Timestamp};

/// Distinguishes one record from another: a hash of its key and its payload. A view uses it to recognise
/// the log that it was folded from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity([u8; 16]);

impl Identity {
    /// From its 16 bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its 16 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// The last record that a view has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastRecord {
    /// Where it stands.
    pub offset: Offset,
    /// What it is.
    pub identity: Identity,
}

/// Which log a record is in, where a partition has had several logs. The default is the first log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogRef {
    /// How many other logs an operator had made the view accept before it folded the record.
    pub number: i32,
    /// How many offsets of records that it had folded were lost with the logs before.
    pub lost_offsets: i64,
}

/// The records of one partition up to `to`, decoded. Every record is in exactly one of the three lists,
/// each ascending by offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogBatch {
    /// The offset after the last record; the batch begins where the one before it ended.
    pub to: Offset,
    /// Its last record; none in a batch without records, and in the first part of one that was split.
    pub last: Option<LastRecord>,
    /// The events.
    pub events: Vec<(Offset, Event)>,
    /// Records that no version can read, and why: every fold passes them over.
    pub malformed: Vec<(Offset, String)>,
    /// Records of a schema that this version does not have, with the reason. A fold skips such a record
    /// only after an operator's decision ([`crate::RecordSkipped`]).
    pub unknown: Vec<(Offset, String)>,
    /// Orders whose reservation was written to the log noticeably later than it was made, with the time until
    /// which they could be paid if they had been made when they were written. Nothing is decided by it.
    pub late: Vec<(Offset, (OrderId, Timestamp))>,
}

impl LogBatch {
    /// A batch without records that ends at `to`.
    #[must_use]
    pub const fn ending_at(to: Offset) -> Self {
        Self {
            to,
            last: None,
            events: Vec::new(),
            malformed: Vec::new(),
            unknown: Vec::new(),
            late: Vec::new(),
        }
    }

    /// A batch of events only.
    #[must_use]
    pub fn of_events(events: Vec<(Offset, Event)>, to: Offset) -> Self {
        Self {
            events,
            ..Self::ending_at(to)
        }
    }

    /// How many records it has.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.events.len() + self.malformed.len() + self.unknown.len()
    }

    /// Whether it has none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The offset of the record in its middle; none where it has fewer than two.
    #[must_use]
    pub fn middle(&self) -> Option<Offset> {
        let mut offsets: Vec<Offset> = self.events.iter().map(|(at, _)| *at).collect();
        let others = self.malformed.iter().chain(&self.unknown);
        offsets.extend(others.map(|(at, _)| *at));
        offsets.sort_unstable();
        (offsets.len() > 1).then(|| offsets[offsets.len() / 2])
    }

    /// Removes the records before `from`.
    pub fn drop_before(&mut self, from: Offset) {
        self.events = tail(&mut self.events, from);
        self.malformed = tail(&mut self.malformed, from);
        self.unknown = tail(&mut self.unknown, from);
        self.late = tail(&mut self.late, from);
    }

    /// The records before `middle`, and the rest.
    #[must_use]
    pub fn split(mut self, middle: Offset) -> (Self, Self) {
        let rest = Self {
            to: self.to,
            last: self.last.take(),
            events: tail(&mut self.events, middle),
            malformed: tail(&mut self.malformed, middle),
            unknown: tail(&mut self.unknown, middle),
            late: tail(&mut self.late, middle),
        };
        self.to = middle;
        (self, rest)
    }
}

fn tail<T>(list: &mut Vec<(Offset, T)>, middle: Offset) -> Vec<(Offset, T)> {
    let at = list.partition_point(|(offset, _)| *offset < middle);
    list.split_off(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EventBody, EventId, VoucherId};

    /// Records at these offsets: those that 3 divides are malformed, the other even ones unknown.
    fn batch(offsets: &[i64], to: i64) -> LogBatch {
        let mut batch = LogBatch::ending_at(Offset::new(to));
        for at in offsets {
            let offset = Offset::new(*at);
            if at % 3 == 0 {
                batch.malformed.push((offset, "no payload".to_owned()));
            } else if at % 2 == 0 {
                batch.unknown.push((offset, "schema".to_owned()));
            } else {
                let order = OrderId::from_parts(VoucherId::new(1).unwrap(), 1, 1);
                batch
                    .late
                    .push((offset, (order, Timestamp::from_micros(*at))));
                let event = Event {
                    event_id: EventId::from_uuid(uuid::Uuid::nil()),
                    voucher_id: VoucherId::new(1).unwrap(),
                    occurred_at: Timestamp::from_micros(0),
                    body: EventBody::SaleClosed,
                };
                batch.events.push((offset, event));
            }
        }
        batch
    }

    #[test]
    fn the_parts_of_a_split_batch_meet_in_the_middle_and_lose_nothing() {
        let whole = batch(&[3, 4, 7, 8, 9, 11], 20);
        assert_eq!(whole.len(), 6);
        let middle = whole.middle().unwrap();
        assert_eq!(middle, Offset::new(8));
        let (first, second) = whole.split(middle);
        assert_eq!(first, batch(&[3, 4, 7], 8));
        assert_eq!(second, batch(&[8, 9, 11], 20));
        assert_eq!(batch(&[3], 4).middle(), None);

        let mut rest = batch(&[3, 4, 7, 8, 9, 11], 20);
        rest.drop_before(Offset::new(8));
        assert_eq!(rest, second);
    }
}
