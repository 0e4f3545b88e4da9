//! Tells who says how many replicas each model has: metrics all the time, and a ledger record when that turns.

use ledger::Record;
use metrics::gauge;
use plan::{ModelId, scale::Standing};
use serde_json::json;

use crate::Shared;

/// 1 while the forecast acts, 0 while the rule does.
const ACTS: &str = "mantlet_orchestrator_autoscaler_acts";
/// The share of costs that the forecast saves beside the rule; below 0 where it costs more.
const SAVED: &str = "mantlet_orchestrator_autoscaler_saved";

/// What the ledger is told of a turn.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Turn {
    action: &'static str,
    why: &'static str,
    standing: Standing,
}

/// What happened between two looks, in the order in which it must have happened; several turns of a kind are one.
pub(crate) fn turned(before: &Standing, now: &Standing) -> Vec<Turn> {
    let turn = |action, why, happened: bool| happened.then_some(Turn { action, why, standing: *now });
    let promoted =
        turn("autoscaler.promote", "the forecast is shown to cost less than the rule", now.promoted > before.promoted);
    let handed_back = turn(
        "autoscaler.hand_back",
        "the forecast is no longer shown to cost less than the rule",
        now.handed_back > before.handed_back,
    );
    let turns = if now.acts { [handed_back, promoted] } else { [promoted, handed_back] };
    turns.into_iter().flatten().collect()
}

pub(crate) fn record(shared: &Shared, model: &ModelId, turn: &Turn) -> Record {
    let Turn { action, why, standing } = turn;
    tracing::info!(model = %model.name, namespace = %model.namespace, action, why, "another one says how many replicas");
    let (rule, forecast) = standing.costs.unzip();
    let detail = json!({
        "why": why,
        "blocks": { "rule": standing.blocks.0, "forecast": standing.blocks.1 },
        "late_seconds_an_hour": { "rule": rule, "forecast": forecast },
    });
    shared.record(action, (&model.namespace, &model.name), "orchestrator".into(), detail)
}

pub(crate) fn measure(model: &ModelId, standing: &Standing) {
    let labels = [("namespace", model.namespace.to_string()), ("model", model.name.to_string())];
    gauge!(ACTS, &labels).set(f64::from(u8::from(standing.acts)));
    gauge!(SAVED, &labels).set(standing.saved().unwrap_or(0.0));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_turn_is_told_once_and_in_order() {
        let words =
            |before: Standing, now: Standing| turned(&before, &now).iter().map(|turn| turn.action).collect::<Vec<_>>();
        let nobody = Standing::default();
        let promoted = Standing { acts: true, promoted: 1, ..nobody };
        assert_eq!(words(nobody, promoted), ["autoscaler.promote"]);
        assert!(words(promoted, promoted).is_empty());
        let back = Standing { acts: false, handed_back: 1, ..promoted };
        assert_eq!(words(promoted, back), ["autoscaler.hand_back"]);
        assert_eq!(words(nobody, back), ["autoscaler.promote", "autoscaler.hand_back"]);
        assert_eq!(
            words(promoted, Standing { acts: true, promoted: 2, ..back }),
            ["autoscaler.hand_back", "autoscaler.promote"]
        );
        // Another price begins anew: nobody has turned.
        assert!(words(promoted, nobody).is_empty());
    }
}
