//! `authorize`: from a [`Principal`] to a [`Permit`], by Cedar policies, deny by default.

use std::{collections::HashMap, fmt, str::FromStr as _};

use cedar_policy::{
    Authorizer as Cedar, Context, Decision, Entities, Entity, EntityId, EntityTypeName, EntityUid, PolicySet, Request,
    RestrictedExpression,
};
use parking_lot::RwLock;
use types::{CallerName, Code, ModelName, Namespace, Refusal, Role};

use crate::{
    Principal,
    policy::{self, PolicyError},
};

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the policies' own words")]
pub enum Action {
    Predict,
    Feedback,
    Pin,
    Read,
    Deploy,
    Delete,
    Export,
    Audit,
    Forget,
    ManageCallers,
    ManagePolicies,
    ManageNamespaces,
    ManagePublishers,
    ManageSecrets,
    ManageKeys,
    Metrics,
}

impl Action {
    /// Every action there is.
    pub const ALL: [Self; 16] = [
        Self::Predict,
        Self::Feedback,
        Self::Pin,
        Self::Read,
        Self::Deploy,
        Self::Delete,
        Self::Export,
        Self::Audit,
        Self::Forget,
        Self::ManageCallers,
        Self::ManagePolicies,
        Self::ManageNamespaces,
        Self::ManagePublishers,
        Self::ManageSecrets,
        Self::ManageKeys,
        Self::Metrics,
    ];

    /// The action's word in policies.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Predict => "predict",
            Self::Feedback => "feedback",
            Self::Pin => "pin",
            Self::Read => "read",
            Self::Deploy => "deploy",
            Self::Delete => "delete",
            Self::Export => "export",
            Self::Audit => "audit",
            Self::Forget => "forget",
            Self::ManageCallers => "manageCallers",
            Self::ManagePolicies => "managePolicies",
            Self::ManageNamespaces => "manageNamespaces",
            Self::ManagePublishers => "managePublishers",
            Self::ManageSecrets => "manageSecrets",
            Self::ManageKeys => "manageKeys",
            Self::Metrics => "metrics",
        }
    }
}

impl Action {
    /// Whether the action makes sense on this kind of resource, as the schema says.
    pub fn applies_to(self, resource: &Resource) -> bool {
        let (model, namespace, node) = match self {
            Self::Predict | Self::Pin | Self::Delete | Self::Export => (true, false, false),
            Self::Feedback | Self::Deploy => (true, true, false),
            Self::Read | Self::Audit => (true, true, true),
            Self::ManageCallers
            | Self::ManagePolicies
            | Self::ManagePublishers
            | Self::ManageSecrets
            | Self::Forget => (false, true, true),
            Self::ManageNamespaces | Self::ManageKeys | Self::Metrics => (false, false, true),
        };
        match resource {
            Resource::Model(..) => model,
            Resource::Namespace(_) => namespace,
            Resource::Node => node,
        }
    }
}

/// On what.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Resource {
    /// A model, whether it exists or not.
    Model(Namespace, ModelName),
    /// Everything in a namespace.
    Namespace(Namespace),
    /// The node itself.
    Node,
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Model(namespace, model) => write!(f, "model `{model}` in namespace `{namespace}`"),
            Self::Namespace(namespace) => write!(f, "namespace `{namespace}`"),
            Self::Node => f.write_str("this node"),
        }
    }
}

/// Proof that a policy allowed this principal this action on this resource; made only by
/// [`Authorizer::authorize`].
///
/// Asking for one compiles, forging one does not:
///
/// ```
/// fn ask(by: &access::Authorizer, who: access::Principal) -> Option<access::Permit> {
///     by.authorize(who, access::Action::Predict, access::Resource::Node).ok()
/// }
/// ```
///
/// ```compile_fail,E0451
/// fn forge(who: access::Principal) -> access::Permit {
///     access::Permit { principal: who, action: access::Action::Predict, resource: access::Resource::Node }
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permit {
    principal: Principal,
    action: Action,
    resource: Resource,
}

impl Permit {
    /// Who was allowed.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// What was allowed.
    pub fn action(&self) -> Action {
        self.action
    }

    /// On what.
    pub fn resource(&self) -> &Resource {
        &self.resource
    }

    /// The namespace of the resource.
    pub fn namespace(&self) -> &Namespace {
        match &self.resource {
            Resource::Model(namespace, _) | Resource::Namespace(namespace) => namespace,
            Resource::Node => self.principal.namespace(),
        }
    }
}

/// Decides by policies and remembers its decisions.
pub struct Authorizer {
    policies: Option<RwLock<Policies>>,
    cedar: Cedar,
    cache: RwLock<HashMap<Key, bool>>,
}

/// The policies in force; `version` tells decisions made under them from others.
struct Policies {
    default: PolicySet,
    /// The default policies with a namespace's own, where it has some.
    namespaces: HashMap<Namespace, PolicySet>,
    version: u64,
}

/// A decision holds for these policies, principal epoch, action and resource.
type Key = (u64, u64, Action, Resource);

/// Decisions remembered before all are forgotten: bounds memory at a few MB.
const CACHE: usize = 16_384;

/// Why somebody may do something, or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Whether it is allowed.
    pub allowed: bool,
    /// Names of the policies that decided; none when no policy permits it.
    pub policies: Vec<String>,
}

/// Who asks, as policies see them.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    /// The namespace the caller belongs to.
    pub home: &'a Namespace,
    /// The caller.
    pub caller: &'a CallerName,
    /// What the caller may be.
    pub roles: &'a [Role],
    /// Whether the caller may act in any namespace.
    pub node_wide: bool,
}

impl<'a> From<&'a Principal> for Asker<'a> {
    fn from(principal: &'a Principal) -> Self {
        Self {
            home: principal.home(),
            caller: principal.caller(),
            roles: principal.roles(),
            node_wide: principal.node_wide(),
        }
    }
}

impl Authorizer {
    /// Decides by these policies, in every namespace.
    ///
    /// # Errors
    /// When they don't parse, or don't fit the schema.
    pub fn new(policies: &str) -> Result<Self, PolicyError> {
        let policies = Policies { default: policy::parse(policies, "")?, namespaces: HashMap::new(), version: 0 };
        Ok(Self { policies: Some(RwLock::new(policies)), cedar: Cedar::new(), cache: RwLock::default() })
    }

    /// Allows everything: for `--security off` alone.
    pub fn open() -> Self {
        Self { policies: None, cedar: Cedar::new(), cache: RwLock::default() }
    }

    /// Adds a namespace's own policies to the default ones, in that namespace alone, or takes them back.
    ///
    /// # Errors
    /// When they can't be used; those in force stay.
    pub fn set(&self, namespace: &Namespace, text: Option<&str>) -> Result<(), PolicyError> {
        let own = text.map(|text| policy::parse(text, namespace.as_str())).transpose()?;
        let Some(policies) = &self.policies else { return Ok(()) };
        let mut policies = policies.write();
        let merged = match own {
            None => None,
            Some(own) => {
                let mut merged = policies.default.clone();
                merged.merge(&own, false).map_err(|error| PolicyError(error.to_string()))?;
                Some(merged)
            }
        };
        match merged {
            Some(merged) => policies.namespaces.insert(namespace.clone(), merged),
            None => policies.namespaces.remove(namespace),
        };
        policies.version += 1;
        self.cache.write().clear();
        Ok(())
    }

    /// Lets the principal do it, or says no.
    ///
    /// O(1) for a decision it remembers; some tens of microseconds otherwise.
    ///
    /// # Errors
    /// `not_allowed` in the principal's own namespace; what does not exist in anybody else's.
    pub fn authorize(&self, principal: Principal, action: Action, resource: Resource) -> Result<Permit, Refusal> {
        let Some(policies) = &self.policies else { return Ok(Permit { principal, action, resource }) };
        let key = (policies.read().version, principal.epoch(), action, resource);
        let known = self.cache.read().get(&key).copied();
        let allowed = match known {
            Some(allowed) => allowed,
            None => {
                let policies = policies.read();
                let allowed = self.decide(&policies, Asker::from(&principal), action, &key.3).allowed;
                // Under the same lock: a decision is never remembered under policies it was not made by.
                if policies.version == key.0 {
                    let mut cache = self.cache.write();
                    if cache.len() >= CACHE {
                        cache.clear();
                    }
                    cache.insert(key.clone(), allowed);
                }
                allowed
            }
        };
        let resource = key.3;
        if allowed {
            return Ok(Permit { principal, action, resource });
        }
        Err(denial(&principal, action, &resource))
    }

    /// What the policies say of anybody, and which of them says it.
    pub fn explain(&self, asker: Asker<'_>, action: Action, resource: &Resource) -> Explanation {
        match &self.policies {
            None => Explanation { allowed: true, policies: vec!["security is off".into()] },
            Some(policies) => self.decide(&policies.read(), asker, action, resource),
        }
    }

    fn decide(&self, policies: &Policies, asker: Asker<'_>, action: Action, resource: &Resource) -> Explanation {
        let own = match resource {
            // Who may change a namespace's policies is not theirs to say: nobody locks the door from inside.
            _ if action == Action::ManagePolicies => None,
            Resource::Model(namespace, _) | Resource::Namespace(namespace) => policies.namespaces.get(namespace),
            Resource::Node => None,
        };
        // Whatever can't be asked is denied.
        let Some((request, entities)) = question(asker, action, resource) else {
            return Explanation { allowed: false, policies: Vec::new() };
        };
        let response = self.cedar.is_authorized(&request, own.unwrap_or(&policies.default), &entities);
        let mut deciding: Vec<String> = response.diagnostics().reason().map(ToString::to_string).collect();
        deciding.sort();
        // A policy that fails while it is evaluated may have been meant to forbid.
        let failed = response.diagnostics().errors().next().is_some();
        Explanation { allowed: response.decision() == Decision::Allow && !failed, policies: deciding }
    }
}

fn denial(principal: &Principal, action: Action, resource: &Resource) -> Refusal {
    let foreign = |namespace: &Namespace| namespace != principal.home() && !principal.node_wide();
    match resource {
        Resource::Model(namespace, model) if foreign(namespace) => {
            Refusal::new(Code::ModelNotFound, format!("there is no model `{model}` for you"))
        }
        Resource::Namespace(namespace) if foreign(namespace) => {
            Refusal::new(Code::PathNotFound, format!("there is no namespace `{namespace}` for you"))
        }
        _ => Refusal::new(Code::NotAllowed, format!("{} may not {} {resource}", principal.subject(), action.as_str()))
            .hint("ask an admin of the namespace for a token with a role that may"),
    }
}

fn question(asker: Asker<'_>, action: Action, resource: &Resource) -> Option<(Request, Entities)> {
    let caller = uid("Caller", &format!("{}/{}", asker.home, asker.caller))?;
    let roles: Vec<EntityUid> = asker.roles.iter().map(|role| uid("Role", role.as_str())).collect::<Option<_>>()?;
    let text = |value: &Namespace| RestrictedExpression::new_string(value.to_string());
    let attributes = HashMap::from([
        ("namespace".to_owned(), text(asker.home)),
        ("nodeWide".to_owned(), RestrictedExpression::new_bool(asker.node_wide)),
    ]);
    let (target, attributes_of_target) = match resource {
        Resource::Model(namespace, model) => {
            (uid("Model", &format!("{namespace}/{model}"))?, HashMap::from([("namespace".to_owned(), text(namespace))]))
        }
        Resource::Namespace(namespace) => {
            (uid("Namespace", namespace.as_str())?, HashMap::from([("namespace".to_owned(), text(namespace))]))
        }
        Resource::Node => (uid("Node", "this")?, HashMap::new()),
    };
    let mut entities: Vec<Entity> = roles.iter().cloned().map(Entity::with_uid).collect();
    entities.push(Entity::new(caller.clone(), attributes, roles.into_iter().collect()).ok()?);
    entities.push(Entity::new(target.clone(), attributes_of_target, std::collections::HashSet::new()).ok()?);
    let entities = Entities::from_entities(entities, None).ok()?;
    let request = Request::new(caller, uid("Action", action.as_str())?, target, Context::empty(), None).ok()?;
    Some((request, entities))
}

fn uid(kind: &str, id: &str) -> Option<EntityUid> {
    let kind = EntityTypeName::from_str(&format!("Mantlet::{kind}")).ok()?;
    Some(EntityUid::from_type_name_and_id(kind, EntityId::new(id)))
}

#[cfg(test)]
mod tests {
    use types::Timestamp;

    use super::*;
    use crate::{Credential, Identifier, POLICIES, Token, TokenRecord};

    /// Decisions are remembered per principal epoch, so principals of one authorizer share one identifier.
    fn principal(identifier: &Identifier, roles: &[Role], node_wide: bool) -> Principal {
        let token = Token::generate();
        identifier.insert(TokenRecord {
            id: token.id().clone(),
            digest: token.digest(),
            namespace: "bank".parse().unwrap(),
            caller: "teller".parse().unwrap(),
            roles: roles.to_vec(),
            node_wide,
            created: Timestamp(0),
            expires: None,
        });
        identifier
            .identify(Credential::bearer(format!("Bearer {}", *token.expose()).as_bytes()), None, Timestamp(0))
            .unwrap()
    }

    fn model(namespace: &str) -> Resource {
        Resource::Model(namespace.parse().unwrap(), "fraud".parse().unwrap())
    }

    /// Whether a role of namespace `bank` may do it there by the default policies, on a model or the namespace.
    fn expected(role: Role, action: Action) -> bool {
        match role {
            Role::Admin => !matches!(action, Action::Metrics | Action::ManageNamespaces),
            Role::Deployer => matches!(action, Action::Deploy | Action::Delete | Action::Export | Action::Read),
            Role::Caller => matches!(action, Action::Predict | Action::Read),
            Role::Labeller => matches!(action, Action::Feedback | Action::Read),
            Role::Auditor => matches!(action, Action::Audit | Action::Export | Action::Read),
        }
    }

    #[test]
    fn each_role_may_do_exactly_this() {
        let authorizer = Authorizer::new(POLICIES).unwrap();
        let identifier = Identifier::new();
        for action in Action::ALL {
            let resource = |namespace: &str| match action {
                Action::ManageCallers | Action::ManagePolicies | Action::Forget => {
                    Resource::Namespace(namespace.parse().unwrap())
                }
                Action::Metrics | Action::ManageNamespaces => Resource::Node,
                _ => model(namespace),
            };
            let node = resource("bank") == Resource::Node;
            for role in Role::ALL {
                let strict = expected(role, action) && !node;
                let wide = match role {
                    Role::Admin => true,
                    Role::Auditor => expected(role, action) && !node,
                    _ => false,
                };
                for (node_wide, namespace, allowed) in
                    [(false, "bank", strict), (false, "clinic", false), (true, "clinic", wide)]
                {
                    let who = principal(&identifier, &[role], node_wide);
                    // Twice: the second answer comes from memory.
                    for _ in 0..2 {
                        let answer = authorizer.authorize(who.clone(), action, resource(namespace));
                        assert_eq!(answer.is_ok(), allowed, "{role} {node_wide} {action:?} {namespace}");
                    }
                }
            }
            let nobody = principal(&identifier, &[], true);
            assert!(authorizer.authorize(nobody, action, resource("bank")).is_err());
        }
    }

    #[test]
    fn a_namespace_adds_its_own_policies_and_only_there() {
        let authorizer = Authorizer::new(POLICIES).unwrap();
        let identifier = Identifier::new();
        let (teller, admin) =
            (principal(&identifier, &[Role::Caller], false), principal(&identifier, &[Role::Admin], true));
        let may = |who: &Principal, action, resource| authorizer.authorize(who.clone(), action, resource).is_ok();
        let bank: Namespace = "bank".parse().unwrap();
        assert!(!may(&teller, Action::Pin, model("bank")));
        let text = r#"@id("tellers-pin")
            permit (principal == Mantlet::Caller::"bank/teller", action == Mantlet::Action::"pin", resource);
            @id("nobody-deletes") forbid (principal, action == Mantlet::Action::"delete", resource);
            @id("lock") forbid (principal, action == Mantlet::Action::"managePolicies", resource);"#;
        authorizer.set(&bank, Some(text)).unwrap();
        assert!(may(&teller, Action::Pin, model("bank")) && !may(&teller, Action::Pin, model("clinic")));
        assert!(!may(&admin, Action::Delete, model("bank")) && may(&admin, Action::Delete, model("clinic")));
        assert!(may(&admin, Action::ManagePolicies, Resource::Namespace(bank.clone())), "nobody is locked out");
        let why = authorizer.explain(Asker::from(&teller), Action::Pin, &model("bank"));
        assert_eq!((why.allowed, why.policies), (true, vec!["bank/tellers-pin".to_owned()]));
        let why = authorizer.explain(Asker::from(&admin), Action::Delete, &model("bank"));
        assert_eq!((why.allowed, why.policies), (false, vec!["bank/nobody-deletes".to_owned()]));

        assert!(authorizer.set(&bank, Some("permit(")).is_err());
        assert!(may(&teller, Action::Pin, model("bank")), "what can't be used changes nothing");
        authorizer.set(&bank, None).unwrap();
        assert!(!may(&teller, Action::Pin, model("bank")) && may(&admin, Action::Delete, model("bank")));
    }

    #[test]
    fn a_policy_that_fails_denies() {
        let authorizer = Authorizer::new(POLICIES).unwrap();
        let bank = "bank".parse().unwrap();
        let text = "forbid (principal, action == Mantlet::Action::\"predict\", resource) when { 9223372036854775807 + 1 > 0 };";
        authorizer.set(&bank, Some(text)).unwrap();
        let who = principal(&Identifier::new(), &[Role::Caller], false);
        assert!(authorizer.authorize(who, Action::Predict, model("bank")).is_err());
    }

    #[test]
    fn what_belongs_to_others_does_not_exist() {
        let authorizer = Authorizer::new(POLICIES).unwrap();
        let who = principal(&Identifier::new(), &[Role::Caller], false);
        let deploy = |namespace| authorizer.authorize(who.clone(), Action::Deploy, model(namespace)).unwrap_err().code;
        assert_eq!(deploy("bank"), Code::NotAllowed);
        assert_eq!(deploy("clinic"), Code::ModelNotFound);
    }
}
