//! Operators who sign in at an identity provider, with their roles.

use seckill_credentials::issued::Claims;
use seckill_domain::Actor;
use seckill_service::settings::Reader;
use serde_json::Value;
use tokio::runtime::Handle;

use crate::issuer::{Issuer, IssuerSettings, NotVerified};
use crate::operators::auth::Operator;
use crate::operators::role::Role;

const ROLES_CLAIM: &str = "roles";
/// The prefix of the roles. A provider also has roles for other programs, and its own `admin`.
const PREFIX: &str = "seckill-";

/// The settings of the identity provider of operators.
#[derive(Debug, Clone)]
pub struct ProviderSettings {
    issuer: IssuerSettings,
    roles_claim: String,
}

impl ProviderSettings {
    /// Reads `ADMIN_ISSUER`, `ADMIN_AUDIENCE` and `ADMIN_ROLES_CLAIM`. None if at least one is wrong; the reader then
    /// has the error.
    pub fn read(reader: &mut Reader<'_>) -> Option<Option<Self>> {
        let issuer = IssuerSettings::read(reader, "ADMIN_ISSUER", "ADMIN_AUDIENCE");
        let roles_claim = reader.or("ADMIN_ROLES_CLAIM", ROLES_CLAIM.to_owned())?;
        Some(issuer?.map(|issuer| Self {
            issuer,
            roles_claim,
        }))
    }

    /// The issuer and the audience of the tokens.
    #[must_use]
    pub const fn issuer(&self) -> &IssuerSettings {
        &self.issuer
    }
}

/// Why the owner of a token is not an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoOperator {
    /// The token could not be verified.
    NotVerified(NotVerified),
    /// The provider has given them none of the roles.
    NoRole,
}

/// The identity provider of operators.
pub struct Provider {
    issuer: Issuer,
    roles_claim: String,
}

impl Provider {
    /// Sends no request yet. Later requests run on `runtime`.
    ///
    /// # Errors
    /// As [`Issuer::new`].
    pub fn new(settings: ProviderSettings, runtime: Handle) -> Result<Self, String> {
        Ok(Self {
            issuer: Issuer::new(settings.issuer, "operators", runtime)?,
            roles_claim: settings.roles_claim,
        })
    }

    /// The issuer whose tokens are checked.
    #[must_use]
    pub fn issuer(&self) -> Issuer {
        self.issuer.clone()
    }

    /// The operator whose token it is.
    ///
    /// # Errors
    /// Why the owner is not an operator.
    pub async fn find(&self, token: &str) -> Result<Operator, NoOperator> {
        let claims = self.issuer.verify(token).await;
        let claims = claims.map_err(NoOperator::NotVerified)?;
        let name = name(&claims).ok_or_else(|| {
            let why = "its subject is longer than a name in the audit may be";
            NoOperator::NotVerified(NotVerified::Refused(why.to_owned()))
        })?;
        let role = role(&claims, &self.roles_claim).ok_or(NoOperator::NoRole)?;
        Ok(Operator {
            name: Some(name),
            role,
        })
    }
}

/// The name of an operator in the audit. It ends with the provider's own id of the person, which never changes. People
/// may be able to change the rest themselves.
fn name(claims: &Claims) -> Option<Actor> {
    let text = |claim| claims.get(claim).and_then(Value::as_str);
    let sub = text("sub").filter(|sub| !sub.is_empty())?;
    let called = ["preferred_username", "email", "name"];
    let called = called.into_iter().find_map(text);
    called
        .and_then(|called| Actor::written(&format!("{called} ({sub})")).ok())
        .or_else(|| Actor::written(sub).ok())
}

/// The highest role in a claim, which is a list or a text with spaces. `claim` is the name of the claim, or a path with
/// dots.
fn role(claims: &Claims, claim: &str) -> Option<Role> {
    let mut steps = claim.split('.');
    let nested = || {
        let first = claims.get(steps.next()?)?;
        steps.try_fold(first, |value, step| value.get(step))
    };
    let found = claims.get(claim).or_else(nested)?;
    let listed = found.as_array().into_iter().flatten();
    let listed = listed.filter_map(Value::as_str);
    let texts = listed.chain(found.as_str().into_iter().flat_map(str::split_whitespace));
    let roles = texts.filter_map(|text| text.strip_prefix(PREFIX)?.parse().ok());
    roles.max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn claims(value: &Value) -> Claims {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn the_highest_role_counts_wherever_a_provider_puts_it() {
        for (value, claim, expected) in [
            (
                json!({ "roles": ["seckill-viewer"] }),
                "roles",
                Some(Role::Viewer),
            ),
            (
                json!({ "roles": ["seckill-viewer", "x", "seckill-operator"] }),
                "roles",
                Some(Role::Operator),
            ),
            (
                json!({ "realm_access": { "roles": ["seckill-admin"] } }),
                "realm_access.roles",
                Some(Role::Admin),
            ),
            (
                json!({ "https://shop.example/roles": ["seckill-admin"] }),
                "https://shop.example/roles",
                Some(Role::Admin),
            ),
            (
                json!({ "cognito:groups": ["seckill-viewer"] }),
                "cognito:groups",
                Some(Role::Viewer),
            ),
            (
                json!({ "scope": "openid seckill-operator" }),
                "scope",
                Some(Role::Operator),
            ),
            // The provider's own roles have no meaning here.
            (json!({ "roles": ["admin", "operator"] }), "roles", None),
            (
                json!({ "roles": ["seckill-root", "seckill-", 7] }),
                "roles",
                None,
            ),
            (json!({ "roles": { "seckill-admin": true } }), "roles", None),
            (json!({ "roles": ["seckill-admin"] }), "groups", None),
            (json!({}), "roles", None),
        ] {
            assert_eq!(role(&claims(&value), claim), expected, "{value} {claim}");
        }
    }

    #[test]
    fn a_name_that_somebody_gave_themselves_does_not_hide_who_it_is() {
        let long = "x".repeat(Actor::MAX_CHARS);
        for (value, expected) in [
            (
                json!({ "sub": "7", "preferred_username": "kim" }),
                Some("kim (7)"),
            ),
            (
                json!({ "sub": "7", "preferred_username": "lee (8)" }),
                Some("lee (8) (7)"),
            ),
            (
                json!({ "sub": "7", "email": "kim@shop.example" }),
                Some("kim@shop.example (7)"),
            ),
            (json!({ "sub": "7", "name": "two\nlines" }), Some("7")),
            (json!({ "sub": "7", "name": long }), Some("7")),
            (json!({ "sub": "7" }), Some("7")),
            (json!({ "sub": format!("{long}y") }), None),
            (json!({ "sub": "" }), None),
            (json!({ "name": "kim" }), None),
        ] {
            let name = name(&claims(&value)).map(|name| name.to_string());
            assert_eq!(name.as_deref(), expected, "{value}");
        }
    }
}
