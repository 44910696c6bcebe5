//! Reading many sales at once, on all masters.

use std::sync::Arc;

use redis::ErrorKind;
use seckill_domain::VoucherId;
use tokio::task::JoinSet;

use crate::calls::view::Probe;
use crate::redis::error::StockError;
use crate::redis::nodes::{Node, Nodes};

/// The state of many sales.
#[derive(Debug)]
pub struct Survey {
    /// In the order of the vouchers. An error says nothing of the sale.
    pub probes: Vec<Result<Probe, StockError>>,
    /// The first master that did not answer, or that is not the server it was, if there is one.
    pub failure: Option<StockError>,
}

impl Survey {
    pub(crate) async fn take(nodes: &Arc<Nodes>, vouchers: &[VoucherId]) -> Self {
        let masters = match nodes.masters().await {
            Ok(masters) => masters,
            Err(error) => {
                return Self {
                    probes: vec![Err(error.clone()); vouchers.len()],
                    failure: Some(error),
                };
            }
        };
        let mut survey = Self {
            probes: Vec::with_capacity(vouchers.len()),
            failure: None,
        };
        let mut shares = vec![Vec::new(); masters.nodes.len()];
        for (at, voucher) in vouchers.iter().enumerate() {
            let place = masters.place_of(*voucher);
            if let Ok(place) = place {
                shares[place].push((at, *voucher));
            }
            survey
                .probes
                .push(Err(place.err().unwrap_or_else(no_answer)));
        }
        let mut asked = JoinSet::new();
        for (node, share) in masters.nodes.iter().zip(shares) {
            let (nodes, node) = (Arc::clone(nodes), Arc::clone(node));
            asked.spawn(async move {
                let (places, vouchers): (Vec<usize>, Vec<VoucherId>) = share.into_iter().unzip();
                (probe(&nodes, &node, &vouchers).await, places)
            });
        }
        while let Some(answer) = asked.join_next().await {
            // A task that ended with an error has panicked: its sales have no answer.
            let Ok((probes, places)) = answer else {
                continue;
            };
            survey.add(probes, places);
        }
        survey
    }

    fn add(
        &mut self,
        probes: Result<Vec<Result<Probe, StockError>>, StockError>,
        places: Vec<usize>,
    ) {
        match probes {
            Ok(probes) => {
                for (place, probe) in places.into_iter().zip(probes) {
                    self.probes[place] = probe;
                }
            }
            Err(error) => {
                for place in places {
                    self.probes[place] = Err(error.clone());
                }
                self.failure.get_or_insert(error);
            }
        }
    }
}

async fn probe(
    nodes: &Nodes,
    node: &Node,
    vouchers: &[VoucherId],
) -> Result<Vec<Result<Probe, StockError>>, StockError> {
    let connection = nodes.connect(node).await?;
    if !connection.fence_still_holds().await? {
        let another = "Redis is another server than before, or another master";
        return Err(StockError::Unavailable((ErrorKind::Client, another).into()));
    }
    connection.probe_many(vouchers).await
}

fn no_answer() -> StockError {
    StockError::Protocol("a survey was not answered".to_owned())
}
