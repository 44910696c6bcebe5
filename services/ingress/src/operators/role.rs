//! The roles of operators, and the actions that they allow.

use std::str::FromStr;

/// The kind of action of a request to the operators' API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Reads only.
    Read,
    /// Changes an existing sale, or handles a dead letter.
    Act,
    /// Puts up a sale, with a price and terms that bind the shop.
    PutUp,
}

/// Each role also allows everything that the roles before it allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Reads.
    Viewer,
    /// Acts on sales that are there.
    Operator,
    /// Everything.
    Admin,
}

/// The text is not the name of a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no role: viewer, operator or admin")]
pub struct NoRole;

impl Role {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// The name in settings and in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// Whether this role allows an action.
    #[must_use]
    pub const fn may(self, action: Action) -> bool {
        match self {
            Self::Admin => true,
            Self::Operator => matches!(action, Action::Read | Action::Act),
            Self::Viewer => matches!(action, Action::Read),
        }
    }
}

impl FromStr for Role {
    type Err = NoRole;

    fn from_str(text: &str) -> Result<Self, NoRole> {
        let known = Self::ALL.into_iter().find(|role| role.as_str() == text);
        known.ok_or(NoRole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_may_what_its_line_says() {
        for (role, read, act, put_up) in [
            ("viewer", true, false, false),
            ("operator", true, true, false),
            ("admin", true, true, true),
        ] {
            let role: Role = role.parse().unwrap();
            assert_eq!(role.may(Action::Read), read, "{role:?}");
            assert_eq!(role.may(Action::Act), act, "{role:?}");
            assert_eq!(role.may(Action::PutUp), put_up, "{role:?}");
        }
        for none in ["", "Admin", "root", "admin "] {
            assert_eq!(none.parse::<Role>(), Err(NoRole), "{none:?}");
        }
    }
}
