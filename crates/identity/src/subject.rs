//! Whom an identity provider's token is of.

/// As OpenID Connect bounds it.
const SUB_MAX_BYTES: usize = 255;

/// Whoever has this `sub` at this issuer. The same text at another issuer is somebody else.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Subject {
    issuer: String,
    sub: String,
}

/// A `sub` that is nobody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("sub is empty, longer than {SUB_MAX_BYTES} bytes or has a NUL in it")]
pub struct SubjectError;

impl Subject {
    /// Texts are compared byte for byte.
    ///
    /// # Errors
    /// When `sub` cannot be one, or is none that PostgreSQL keeps.
    pub fn new(issuer: &str, sub: &str) -> Result<Self, SubjectError> {
        let fits = (1..=SUB_MAX_BYTES).contains(&sub.len());
        if !fits || sub.contains('\0') || issuer.contains('\0') {
            return Err(SubjectError);
        }
        Ok(Self {
            issuer: issuer.to_owned(),
            sub: sub.to_owned(),
        })
    }

    /// The provider, as `iss` names it.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// What the provider calls its user.
    #[must_use]
    pub fn sub(&self) -> &str {
        &self.sub
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_that_a_provider_may_give_is_a_subject() {
        let long = "x".repeat(SUB_MAX_BYTES);
        for good in ["7", "auth0|5f7", " ", "Zoë\n", &long] {
            assert!(Subject::new("https://a.example", good).is_ok(), "{good}");
        }
        for wrong in ["", "a\0b", &format!("{long}x")] {
            assert_eq!(Subject::new("https://a.example", wrong), Err(SubjectError));
        }
    }
}
