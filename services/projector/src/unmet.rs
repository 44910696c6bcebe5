//! Records under ids that the schema registry has not told yet.

use seckill_domain::Offset;
use seckill_eventlog::{Record, SchemaRegistry};
use seckill_orderbook::ApplyError;

use crate::config::Config;

/// Those of a batch. A partition stands still in front of the first of them.
#[derive(Default)]
pub(crate) struct Unmet(Vec<Record>);

impl Unmet {
    /// Asks the registry for the ids in these records that are not known, before they are decoded.
    pub(crate) async fn of(records: &[Record], registry: Option<&SchemaRegistry>) -> Self {
        let is_unmet = |record: &Record| record.unknown_schema_id().is_some();
        let unmet = records.iter().filter(|record| is_unmet(record));
        let mut unmet: Vec<Record> = unmet.cloned().collect();
        if let Some(registry) = registry {
            let ids = unmet.iter().filter_map(Record::unknown_schema_id);
            registry.meet(ids.collect()).await;
            unmet.retain(is_unmet);
        }
        Self(unmet)
    }

    fn at(&self, offset: Offset) -> Option<&Record> {
        self.0.iter().find(|record| record.offset == offset)
    }

    /// Whether the registry, asked again, knows the record at `offset` by now.
    pub(crate) async fn is_met_since(
        &self,
        offset: Offset,
        registry: Option<&SchemaRegistry>,
    ) -> bool {
        let (Some(record), Some(registry)) = (self.at(offset), registry) else {
            return false;
        };
        let id = record.unknown_schema_id();
        registry.meet(id.into_iter().collect()).await;
        record.unknown_schema_id().is_none()
    }

    /// What the registry has said of the record at `offset` last.
    pub(crate) fn why(&self, offset: Offset, config: &Config) -> Option<String> {
        let event = self.at(offset)?.event(config.stores.kafka.partitions);
        let cause = event.err()?.to_string();
        Some(ApplyError::NotKnownYet { offset, cause }.to_string())
    }
}
