//! How it is looked for attackers, and what is done about them.

use std::{collections::BTreeMap, time::Duration};

use defend::arbiter::{self, Mode};
use gateway::Sensing;
use types::{
    Refusal, SecretName,
    defence::AgentName,
    manifest::{self, Autonomy},
    quantity::{Share, Span},
};

use crate::{Resolved, invalid};

/// How it is looked, how the arbiter decides, and the budget of alarms.
///
/// # Errors
/// `settings_invalid`, with the key.
pub(crate) fn read(resolved: &Resolved) -> Result<(Sensing, arbiter::Settings, f64), Refusal> {
    let mode: String = resolved.get("sentinel", "mode")?;
    let all = match mode.as_str() {
        "on" => Mode::On,
        "rules" => Mode::Shadow,
        "off" => Mode::Off,
        _ => return Err(invalid(format!("sentinel.mode is `{mode}`"), "write on, rules or off".into())),
    };
    let mut modes: BTreeMap<AgentName, Mode> = AgentName::ALL.iter().map(|agent| (*agent, all)).collect();
    let agents: String = resolved.get("sentinel", "agents")?;
    for one in agents.split(',').map(str::trim).filter(|one| !one.is_empty()) {
        let (agent, mode) = agent(one)?;
        // One agent alone does not go further than all may.
        modes.entry(agent).and_modify(|known| *known = least(*known, mode));
    }
    let window = resolved.get::<Span>("sentinel", "window")?.0;
    if window < Duration::from_secs(1) || window > Duration::from_secs(3_600) {
        return Err(invalid(format!("sentinel.window is {} s", window.as_secs_f64()), "write 1s to 1h".into()));
    }
    let autonomy: String = resolved.get("sentinel", "autonomy")?;
    let autonomy = match autonomy.as_str() {
        "observe" => Autonomy::Observe,
        "recommend" => Autonomy::Recommend,
        "approve" => Autonomy::Approve,
        "act" => Autonomy::Act,
        _ => {
            let what = format!("sentinel.autonomy is `{autonomy}`");
            return Err(invalid(what, "write observe, recommend, approve or act".into()));
        }
    };
    let share = |name| resolved.get::<Share>("sentinel", name).map(Share::get);
    let agents = modes.iter().filter(|(_, mode)| **mode == Mode::On).map(|(agent, _)| *agent).collect();
    let sensing = Sensing { on: all != Mode::Off, window, agents, autonomy };
    Ok((sensing, arbiter::Settings { blast: share("blast")?, autonomy, modes }, share("budget")?))
}

/// Who is told of incidents, if anybody is.
///
/// # Errors
/// `settings_invalid`, with the key.
pub(crate) fn told(resolved: &Resolved) -> Result<Option<::sentinel::Webhook>, Refusal> {
    let url: String = resolved.get("sentinel", "webhook")?;
    if url.is_empty() {
        return Ok(None);
    }
    manifest::secure_origin(&url).map_err(|why| {
        invalid(format!("sentinel.webhook is `{url}`: {why}"), "write it like `https://ops.example/hook`".into())
    })?;
    let name: String = resolved.get("sentinel", "webhook-secret")?;
    let secret: SecretName = name.parse().map_err(|_| {
        let what = format!("sentinel.webhook-secret is `{name}`, which is no name of a secret");
        invalid(what, "name one of the namespace `default`: `mantlet secrets set NAME < key` sets it".into())
    })?;
    Ok(Some(::sentinel::Webhook { url, secret }))
}

fn agent(text: &str) -> Result<(AgentName, Mode), Refusal> {
    let wrong = || {
        let names: Vec<&str> = AgentName::ALL.iter().map(|agent| agent.as_str()).collect();
        invalid(
            format!("sentinel.agents holds `{text}`"),
            format!("write AGENT=MODE: one of {}, and off, shadow or on", names.join(", ")),
        )
    };
    let (name, mode) = text.split_once('=').ok_or_else(wrong)?;
    let agent = AgentName::ALL.iter().find(|agent| agent.as_str() == name.trim()).ok_or_else(wrong)?;
    let mode = match mode.trim() {
        "off" => Mode::Off,
        "shadow" => Mode::Shadow,
        "on" => Mode::On,
        _ => return Err(wrong()),
    };
    Ok((*agent, mode))
}

fn least(one: Mode, other: Mode) -> Mode {
    let order = |mode: Mode| match mode {
        Mode::Off => 0,
        Mode::Shadow => 1,
        Mode::On => 2,
    };
    if order(one) < order(other) { one } else { other }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_told_is_named_with_a_secret_and_outside_by_https() {
        let told = |url: &str, secret: &str| {
            let key = |name, value: &str| ("sentinel", name, "--x", value.to_owned());
            let flags = [key("webhook", url), key("webhook-secret", secret)];
            told(&crate::resolve(None, [], &flags).unwrap()).map_err(|refusal| refusal.text())
        };
        assert_eq!(told("", "").unwrap(), None);
        assert_eq!(told("https://ops.example/a", "hook-key").unwrap().unwrap().secret.as_str(), "hook-key");
        assert!(told("http://127.0.0.1:9/a", "k").unwrap().is_some());
        assert!(told("http://ops.example/a", "k").unwrap_err().contains("https"));
        assert!(told("https://ops.example/a", "").unwrap_err().contains("sentinel.webhook-secret"));
        assert!(told("https://me:pw@ops.example", "k").unwrap_err().contains("password"));
    }

    #[test]
    fn an_agent_has_a_mode_of_its_own_and_no_more_than_all_may() {
        assert_eq!(agent("evasion=shadow").unwrap(), (AgentName::Evasion, Mode::Shadow));
        for wrong in ["evasion", "evasion=loud", "nobody=off"] {
            assert!(agent(wrong).unwrap_err().message.contains("sentinel.agents"), "{wrong}");
        }
        assert_eq!((least(Mode::Shadow, Mode::On), least(Mode::On, Mode::Off)), (Mode::Shadow, Mode::Off));
    }
}
