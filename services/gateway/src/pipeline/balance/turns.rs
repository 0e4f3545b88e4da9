//! Tells which rule chooses the replicas of each model: metrics all the time, and a ledger record when that turns.

use std::collections::HashMap;

use ::balance::Standing;
use metrics::gauge;
use rpc::{orchestrator::ModelKey, registry::RecordWord};
use types::{Refusal, Version};

use crate::Ring;

/// 1 while the learnt rule chooses, 0 while the pool does.
pub(crate) const ACTS: &str = "mantlet_gateway_balancer_acts";
/// The share of latency that the learnt rule saves beside the pool; below 0 where it costs.
pub(crate) const SAVED: &str = "mantlet_gateway_balancer_saved";

/// What has been told so far; of versions that are routed, so no more than there are.
#[derive(Default)]
pub(crate) struct Turns(HashMap<(ModelKey, Version), Standing>);

impl Turns {
    /// Looks at every model, and tells what is new.
    ///
    /// # Errors
    /// When the registry is away; what could not be recorded is the next time.
    pub(crate) async fn tell(&mut self, ring: &Ring) -> Result<(), Refusal> {
        let all = ring.standings();
        self.0.retain(|of, _| {
            let stays = all.contains_key(of);
            if !stays {
                measure(of, &Standing::default());
            }
            stays
        });
        for (of, now) in all {
            measure(&of, &now);
            let before = self.0.get(&of).copied().unwrap_or_default();
            for (action, reason) in turned(&before, &now) {
                let ((namespace, model), version) = &of;
                tracing::info!(%namespace, %model, %version, action, reason, "another rule chooses replicas");
                let word = RecordWord {
                    actor: format!("gateway:{}", ring.name),
                    namespace: namespace.clone(),
                    action: action.to_owned(),
                    subject: format!("model:{namespace}/{model}"),
                    reason: format!("version {version}: {reason}"),
                };
                ring.registry.record_word(word).await?;
            }
            self.0.insert(of, now);
        }
        Ok(())
    }
}

fn measure(((namespace, model), version): &(ModelKey, Version), standing: &Standing) {
    let labels = [("namespace", namespace.to_string()), ("model", model.to_string()), ("version", version.to_string())];
    gauge!(ACTS, &labels).set(f64::from(u8::from(standing.acts)));
    gauge!(SAVED, &labels).set(standing.better().unwrap_or(0.0));
}

/// What the ledger calls what happened between two looks, and why it did; several turns of a kind are one.
fn turned(before: &Standing, now: &Standing) -> impl Iterator<Item = (&'static str, String)> {
    let latencies = now.latencies.map_or_else(String::new, |(pool, learnt)| {
        format!("; {:.2} ms on average with the learnt rule, {:.2} ms with the pool", learnt * 1e3, pool * 1e3)
    });
    let promoted = (now.promoted > before.promoted)
        .then(|| ("balancer.promote", format!("the learnt rule is shown to be better{latencies}")));
    let handed_back = (now.handed_back > before.handed_back)
        .then(|| ("balancer.hand_back", format!("the learnt rule is no longer shown to be better{latencies}")));
    // In the order in which they must have happened.
    let turns = if now.acts { [handed_back, promoted] } else { [promoted, handed_back] };
    turns.into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_turn_is_told_once_and_in_order() {
        let words =
            |before: Standing, now: Standing| turned(&before, &now).map(|(action, _)| action).collect::<Vec<_>>();
        let nobody = Standing::default();
        let promoted = Standing { acts: true, promoted: 1, latencies: Some((0.010, 0.008)), ..nobody };
        assert_eq!(words(nobody, promoted), ["balancer.promote"]);
        assert!(words(promoted, promoted).is_empty());
        let back = Standing { acts: false, handed_back: 1, ..promoted };
        assert_eq!(words(promoted, back), ["balancer.hand_back"]);
        assert_eq!(words(nobody, back), ["balancer.promote", "balancer.hand_back"]);
        let again = Standing { acts: true, promoted: 2, ..back };
        assert_eq!(words(promoted, again), ["balancer.hand_back", "balancer.promote"]);
        let (_, reason) = turned(&nobody, &promoted).next().unwrap();
        assert!(reason.ends_with("8.00 ms on average with the learnt rule, 10.00 ms with the pool"), "{reason}");
    }
}
