//! `authorize`: from a [`Principal`] to a [`Permit`], by Cedar policies, deny by default.

use std::{collections::HashMap, fmt, str::FromStr as _};

use cedar_policy::{
    Authorizer as Cedar, Context, Decision, Entities, Entity, EntityId, EntityTypeName, EntityUid, PolicySet, Request,
    RestrictedExpression, Schema, ValidationMode, Validator,
};
use parking_lot::RwLock;
use types::{Code, ModelName, Namespace, Refusal};

use crate::Principal;

/// The default policies, as shipped.
pub const POLICIES: &str = include_str!("policies.cedar");
/// The schema that policies are validated against.
pub const SCHEMA: &str = include_str!("schema.cedarschema");

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the policies' own words")]
pub enum Action {
    Predict,
    Pin,
    Read,
    Deploy,
    Delete,
    Export,
    ManageCallers,
    Audit,
    Metrics,
}

impl Action {
    /// Every action there is.
    pub const ALL: [Self; 9] = [
        Self::Predict,
        Self::Pin,
        Self::Read,
        Self::Deploy,
        Self::Delete,
        Self::Export,
        Self::ManageCallers,
        Self::Audit,
        Self::Metrics,
    ];

    /// The action's word in policies.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Predict => "predict",
            Self::Pin => "pin",
            Self::Read => "read",
            Self::Deploy => "deploy",
            Self::Delete => "delete",
            Self::Export => "export",
            Self::ManageCallers => "manageCallers",
            Self::Audit => "audit",
            Self::Metrics => "metrics",
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

/// Policies that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("the policies can't be used: {0}")]
pub struct PolicyError(String);

/// Decides by policies and remembers its decisions.
pub struct Authorizer {
    policies: Option<PolicySet>,
    cedar: Cedar,
    cache: RwLock<HashMap<Key, bool>>,
}

/// A decision holds for this principal epoch, action and resource; policies are fixed for an authorizer's life.
type Key = (u64, Action, Resource);

/// Decisions remembered before all are forgotten: bounds memory at a few MB.
const CACHE: usize = 16_384;

impl Authorizer {
    /// Decides by these policies.
    ///
    /// # Errors
    /// When they don't parse, or don't fit the schema.
    pub fn new(policies: &str) -> Result<Self, PolicyError> {
        let wrong = |error: &dyn fmt::Display| PolicyError(error.to_string());
        let policies = PolicySet::from_str(policies).map_err(|e| wrong(&e))?;
        let (schema, _) = Schema::from_cedarschema_str(SCHEMA).map_err(|e| wrong(&e))?;
        let checked = Validator::new(schema).validate(&policies, ValidationMode::Strict);
        if let Some(error) = checked.validation_errors().next() {
            return Err(wrong(error));
        }
        Ok(Self { policies: Some(policies), cedar: Cedar::new(), cache: RwLock::default() })
    }

    /// Allows everything: for `--security off` alone.
    pub fn open() -> Self {
        Self { policies: None, cedar: Cedar::new(), cache: RwLock::default() }
    }

    /// Lets the principal do it, or says no.
    ///
    /// O(1) for a decision it remembers; some tens of microseconds otherwise.
    ///
    /// # Errors
    /// `not_allowed` in the principal's own namespace; what does not exist in anybody else's.
    pub fn authorize(&self, principal: Principal, action: Action, resource: Resource) -> Result<Permit, Refusal> {
        let key = (principal.epoch(), action, resource);
        let known = self.cache.read().get(&key).copied();
        let allowed = match known {
            Some(allowed) => allowed,
            None => {
                let allowed = self.decide(&principal, action, &key.2);
                let mut cache = self.cache.write();
                if cache.len() >= CACHE {
                    cache.clear();
                }
                cache.insert(key.clone(), allowed);
                allowed
            }
        };
        let resource = key.2;
        if allowed {
            return Ok(Permit { principal, action, resource });
        }
        Err(denial(&principal, action, &resource))
    }

    fn decide(&self, principal: &Principal, action: Action, resource: &Resource) -> bool {
        let Some(policies) = &self.policies else { return true };
        // Whatever can't be asked is denied.
        question(principal, action, resource).is_some_and(|(request, entities)| {
            self.cedar.is_authorized(&request, policies, &entities).decision() == Decision::Allow
        })
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

fn question(principal: &Principal, action: Action, resource: &Resource) -> Option<(Request, Entities)> {
    let caller = uid("Caller", &format!("{}/{}", principal.home(), principal.caller()))?;
    let roles: Vec<EntityUid> =
        principal.roles().iter().map(|role| uid("Role", role.as_str())).collect::<Option<_>>()?;
    let text = |value: &Namespace| RestrictedExpression::new_string(value.to_string());
    let attributes = HashMap::from([
        ("namespace".to_owned(), text(principal.home())),
        ("nodeWide".to_owned(), RestrictedExpression::new_bool(principal.node_wide())),
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
    use types::{Role, Timestamp};

    use super::*;
    use crate::{Identifier, Token, TokenRecord};

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
        identifier.identify(Some(format!("Bearer {}", *token.expose()).as_bytes()), None, Timestamp(0)).unwrap()
    }

    fn model(namespace: &str) -> Resource {
        Resource::Model(namespace.parse().unwrap(), "fraud".parse().unwrap())
    }

    #[test]
    fn each_role_may_do_exactly_this() {
        let authorizer = Authorizer::new(POLICIES).unwrap();
        let identifier = Identifier::new();
        for action in Action::ALL {
            for (roles, node_wide, namespace, allowed) in [
                (&[Role::Admin][..], true, "clinic", true),
                (&[Role::Admin][..], false, "bank", true),
                (&[Role::Admin][..], false, "clinic", false),
                (&[Role::Caller][..], false, "bank", matches!(action, Action::Predict | Action::Read)),
                (&[Role::Caller][..], false, "clinic", false),
                (&[][..], true, "bank", false),
            ] {
                let node = matches!(action, Action::Metrics);
                let resource = if node { Resource::Node } else { model(namespace) };
                let allowed = if node { roles == [Role::Admin] && node_wide } else { allowed };
                let who = principal(&identifier, roles, node_wide);
                // Twice: the second answer comes from memory.
                for _ in 0..2 {
                    let answer = authorizer.authorize(who.clone(), action, resource.clone());
                    assert_eq!(answer.is_ok(), allowed, "{roles:?} {node_wide} {action:?} {resource}");
                }
            }
        }
    }

    #[test]
    fn what_belongs_to_others_does_not_exist() {
        let authorizer = Authorizer::new(POLICIES).unwrap();
        let who = principal(&Identifier::new(), &[Role::Caller], false);
        let deploy = |namespace| authorizer.authorize(who.clone(), Action::Deploy, model(namespace)).unwrap_err().code;
        assert_eq!(deploy("bank"), Code::NotAllowed);
        assert_eq!(deploy("clinic"), Code::ModelNotFound);
    }

    #[test]
    fn policies_that_do_not_parse_or_fit_are_refused() {
        assert!(Authorizer::new("permit(").is_err());
        assert!(Authorizer::new("permit(principal, action == Mantlet::Action::\"fly\", resource);").is_err());
    }
}
