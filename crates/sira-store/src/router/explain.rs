//! Why a key goes where it goes.

use std::fmt;

use super::request::Route;

/// What one rule said.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Answer {
    /// Name of the rule.
    pub rule: String,
    /// What it chose; `None` where it left the choice to the next rule.
    pub route: Option<Route>,
    /// Backends that it named and the request does not allow.
    pub passed_over: Vec<String>,
}

/// Every rule's answer for a key, and the one that counts.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Explanation {
    /// Key that was asked for.
    pub key: String,
    /// Every rule, in the order in which they are asked. Those after the one that counts are
    /// answers that would count if it had none.
    pub answers: Vec<Answer>,
    /// What is chosen, and why.
    pub chosen: Route,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chosen = &self.chosen;
        write!(
            f,
            "{:?} goes to {} (rule {})",
            self.key,
            chosen.backends.join(", else "),
            chosen.rule
        )?;
        for (label, names) in [("copies on", &chosen.mirrors), ("compared", &chosen.shadows)] {
            if !names.is_empty() {
                write!(f, ", {label} {}", names.join(", "))?;
            }
        }
        for answer in &self.answers {
            write!(f, "\n  {}: ", answer.rule)?;
            match &answer.route {
                Some(route) => write!(f, "{}", route.backends.join(", "))?,
                None => f.write_str("no answer")?,
            }
            if let Some(route) = answer.route.as_ref().filter(|route| !route.reason.is_empty()) {
                write!(f, " ({})", route.reason)?;
            }
            if !answer.passed_over.is_empty() {
                write!(f, "; not allowed here: {}", answer.passed_over.join(", "))?;
            }
        }
        Ok(())
    }
}
