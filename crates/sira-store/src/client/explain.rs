//! Why an object lies where it does.

use std::fmt;

use super::StorageClient;
use super::plan::StoragePlan;
use crate::env::{Env, SystemEnv};
use crate::error::Result;
use crate::key::check_key;
use crate::options::StorageOptions;
use crate::placement::Copies;
use crate::router::{Answer, Route, RouteRequest};

/// Where an object lies, where its next write would go, and why.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Whereabouts {
    /// Namespace of the object.
    pub namespace: String,
    /// Key of the object.
    pub key: String,
    /// Backend that holds the object, or that would be asked for it.
    pub lies_on: String,
    /// Backends for its next write, the best first. An object that lies on one of them stays there.
    pub goes_to: Vec<String>,
    /// Backends that get a copy of it.
    pub copies_on: Vec<String>,
    /// Backends that are compared, and never served from.
    pub compared_with: Vec<String>,
    /// Backends that hold a copy of the object as it is.
    pub has_copies_on: Vec<String>,
    /// Backends whose copy of the object is behind.
    pub behind_on: Vec<String>,
    /// Rule that chose them.
    pub rule: String,
    /// Why, in words.
    pub reason: String,
    /// What every rule of the router said, where it was asked.
    pub answers: Vec<Answer>,
}

impl fmt::Display for Whereabouts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { namespace, key, lies_on, goes_to, rule, reason, .. } = self;
        writeln!(f, "object    {namespace}/{key}")?;
        writeln!(f, "lies on   {lies_on}")?;
        writeln!(f, "goes to   {}", goes_to.join(", else "))?;
        for (label, names) in [
            ("copies", &self.has_copies_on),
            ("behind", &self.behind_on),
            ("copied to", &self.copies_on),
            ("compared", &self.compared_with),
        ] {
            if !names.is_empty() {
                writeln!(f, "{label:<9} {}", names.join(", "))?;
            }
        }
        write!(f, "because   {rule}: {reason}")?;
        for answer in &self.answers {
            write!(f, "\n  {:<14} ", answer.rule)?;
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

impl StorageClient {
    /// Says where an object of this namespace lies, where a write of it with these options and of
    /// this size would go, and which rule says so. Nothing is written.
    ///
    /// # Errors
    /// As [`StorageClient::open`], and those of the catalog.
    pub async fn explain(
        &self,
        key: &str,
        size: Option<u64>,
        options: &StorageOptions,
    ) -> Result<Whereabouts> {
        check_key(key)?;
        let view = self.view().await?;
        let plan = self.plan();
        let namespace = self.name();
        let (home, _) = plan.home(namespace)?;
        let (lies_on, copies) = match &view.placed {
            Some(placed) => (placed.place(key).await?, placed.copies(key).await?),
            None => (home.to_owned(), Copies::default()),
        };
        let held = |level: bool| {
            let held = copies.on.iter().filter(move |(_, version)| version.is_some() == level);
            held.map(|(name, _)| name.clone()).collect()
        };
        let found = |route: Route, answers| Whereabouts {
            namespace: namespace.to_owned(),
            key: key.to_owned(),
            lies_on: lies_on.clone(),
            goes_to: route.backends,
            copies_on: route.mirrors,
            compared_with: route.shadows,
            has_copies_on: held(true),
            behind_on: held(false),
            rule: route.rule,
            reason: route.reason,
            answers,
        };
        if let Some(replication) = view.placed.as_ref().and_then(|placed| placed.replication()) {
            let [first, others @ ..] = replication.replicas.as_slice() else {
                return Ok(found(Route::default(), Vec::new()));
            };
            let mut route = Route::to([first]).because("the namespace is replicated on them");
            (route.mirrors, route.rule) = (others.to_vec(), "replicas".to_owned());
            return Ok(found(route, Vec::new()));
        }
        let policy = plan.namespaces.get(namespace);
        let own = policy.map(|policy| policy.backends.as_slice()).unwrap_or_default();
        let router = plan.router.as_ref().filter(|_| view.placed.is_some() && own.len() != 1);
        let Some(router) = router else {
            let (goes_to, reason) = fixed(&plan, namespace, own, home);
            let rule = "namespace".to_owned();
            return Ok(found(Route { rule, ..Route::to(goes_to).because(reason) }, Vec::new()));
        };
        let candidates: Vec<String> =
            if own.is_empty() { plan.backends.keys().cloned().collect() } else { own.to_vec() };
        let explanation = router.explain(&RouteRequest {
            namespace,
            size,
            now_ms: SystemEnv.now_ms(),
            candidates: &candidates,
            ..RouteRequest::new(key, options)
        });
        Ok(found(explanation.chosen, explanation.answers))
    }
}

fn fixed(plan: &StoragePlan, namespace: &str, own: &[String], home: &str) -> (Vec<String>, String) {
    let direct = plan.namespaces.get(namespace).is_some_and(|policy| policy.direct);
    match own {
        _ if direct => (vec![home.to_owned()], "other programs use the namespace there".to_owned()),
        [] => (vec![home.to_owned()], "it is the default backend, and nothing else is said".into()),
        [only] => (vec![only.clone()], "the namespace's policy names it alone".to_owned()),
        several => (several.to_vec(), "the namespace's policy names them in this order".to_owned()),
    }
}
