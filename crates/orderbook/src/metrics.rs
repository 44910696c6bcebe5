//! The metrics of the connections to PostgreSQL.

seckill_metrics::catalogue! {
    GaugeEntry CONNECTIONS = "seckill_database_connections" ["pool"] "Connections to PostgreSQL that are open.";
    GaugeEntry CONNECTIONS_IN_USE = "seckill_database_connections_in_use" ["pool"] "Connections that somebody uses at the moment.";
    GaugeEntry CONNECTIONS_MAX = "seckill_database_connections_max" ["pool"] "The most that may be open: whoever asks for one more waits.";
}
