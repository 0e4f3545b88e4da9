//! An incident as the Open Cybersecurity Schema Framework tells it: a Detection Finding (class 2004, schema 1.3).

use serde_json::{Value, json};
use types::defence::{ActionState, Incident, IncidentState, Rung};

/// The class and its category: findings.
const CLASS: u64 = 2_004;
const CATEGORY: u64 = 2;

/// The finding.
pub(super) fn finding(incident: &Incident) -> Value {
    let acting = || incident.actions.iter().filter(|taken| taken.state == ActionState::Acting);
    let strictest = acting().map(|taken| taken.restriction.rung).max().unwrap_or(Rung::Observe);
    let (severity_id, severity) = match strictest {
        Rung::Observe => (2, "Low"),
        Rung::Throttle | Rung::Degrade => (3, "Medium"),
        Rung::Quarantine => (4, "High"),
        Rung::Block | Rung::Revoke => (5, "Critical"),
    };
    let (activity_id, activity, status_id, status) = match incident.state {
        IncidentState::Open => (1, "Create", 1, "New"),
        IncidentState::Contained => (2, "Update", 2, "In Progress"),
        IncidentState::Closed => (3, "Close", 4, "Resolved"),
    };
    let attacks: Vec<Value> = incident
        .techniques
        .iter()
        .map(|technique| json!({ "technique": { "uid": technique.id, "name": technique.name }, "version": "ATLAS 5" }))
        .collect();
    let remediation: Vec<String> =
        acting().map(|taken| format!("mantlet undo {} --reason ...", taken.restriction.id)).collect();
    json!({
        "class_uid": CLASS,
        "class_name": "Detection Finding",
        "category_uid": CATEGORY,
        "category_name": "Findings",
        "activity_id": activity_id,
        "activity_name": activity,
        "type_uid": CLASS * 100 + activity_id,
        "type_name": format!("Detection Finding: {activity}"),
        "severity_id": severity_id,
        "severity": severity,
        "status_id": status_id,
        "status": status,
        "time": incident.updated.0,
        "start_time": incident.opened.0,
        "message": incident.summary,
        "confidence_score": (100.0 * incident.probability).round() as u64,
        "is_alert": true,
        "metadata": {
            "version": "1.3.0",
            "product": { "name": "Mantlet", "vendor_name": "Mantlet", "version": env!("CARGO_PKG_VERSION") },
            "uid": incident.id,
        },
        "finding_info": {
            "uid": incident.id,
            "title": incident.summary,
            "created_time": incident.opened.0,
            "modified_time": incident.updated.0,
            "attacks": attacks,
            "analytic": { "type_id": 1, "type": "Rule", "name": incident.agents.iter().map(|agent| agent.as_str()).collect::<Vec<_>>().join(", ") },
        },
        "evidences": incident.timeline.iter().map(|moment| json!({ "data": { "time": moment.at.0, "what": moment.what } })).collect::<Vec<_>>(),
        "resources": incident.models.iter().map(|model| json!({ "type": "model", "name": model, "namespace": incident.namespace })).collect::<Vec<_>>(),
        "remediation": { "desc": remediation.join("; ") },
        "unmapped": { "subject": incident.subject, "actions": incident.actions },
    })
}

#[cfg(test)]
mod tests {
    use types::{
        Timestamp,
        defence::{AgentName, Moment, Technique},
    };

    use super::*;

    #[test]
    fn a_finding_has_what_the_class_requires() {
        let incident = Incident {
            id: "inc-1".into(),
            namespace: Some("bank".parse().unwrap()),
            subject: "caller:bank/eve".parse().unwrap(),
            state: IncidentState::Contained,
            summary: "eve copies fraud".into(),
            probability: 0.731,
            agents: vec![AgentName::Extraction],
            techniques: vec![Technique { id: "AML.T0024".into(), name: "Exfiltration via ML Inference API".into() }],
            models: vec!["fraud".parse().unwrap()],
            opened: Timestamp(1_000),
            updated: Timestamp(2_000),
            timeline: vec![Moment { at: Timestamp(1_000), what: "seen".into() }],
            actions: Vec::new(),
        };
        let finding = finding(&incident);
        for name in
            ["activity_id", "category_uid", "class_uid", "severity_id", "time", "type_uid", "metadata", "finding_info"]
        {
            assert!(!finding[name].is_null(), "{name}");
        }
        assert_eq!((&finding["type_uid"], &finding["confidence_score"]), (&json!(200_402), &json!(73)));
        assert_eq!(finding["finding_info"]["attacks"][0]["technique"]["uid"], "AML.T0024");
    }
}
