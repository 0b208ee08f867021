use super::*;

fn alert(backend: &str, severity: HealthState, is_firing: bool) -> Alert {
    Alert {
        name: "health_capacity".to_owned(),
        backend: backend.to_owned(),
        severity,
        is_firing,
        message: "so".to_owned(),
        at_ms: 7,
        run_book: "docs".to_owned(),
    }
}

fn target(url: &str, severity: HealthState) -> NotifyTarget {
    NotifyTarget { kind: NotifyKind::Webhook, url: url.to_owned(), secret: None, severity }
}

/// What waits for a target: severity and whether it fires.
fn waiting(notifier: &Notifier, target: usize) -> Vec<(HealthState, bool)> {
    let queue = Arc::clone(&notifier.queues.lock()[target]);
    std::iter::from_fn(|| queue.take()).map(|it| (it.severity, it.is_firing)).collect()
}

use HealthState::{Critical, Warning};

#[test]
fn each_target_hears_of_what_is_severe_enough() {
    let notifier = Notifier::default();
    notifier.apply(vec![target("all", Warning), target("worst", Critical)]);
    notifier.tell(alert("a", Warning, true));
    notifier.tell(alert("b", Critical, true));
    assert_eq!(waiting(&notifier, 0), [(Warning, true), (Critical, true)]);
    assert_eq!(waiting(&notifier, 1), [(Critical, true)]);
    notifier.tell(alert("a", Warning, false));
    notifier.tell(alert("b", Critical, false));
    assert_eq!(waiting(&notifier, 0), [(Warning, false), (Critical, false)]);
    assert_eq!(waiting(&notifier, 1), [(Critical, false)]);
    assert!(notifier.firing().is_empty());
}

#[test]
fn what_becomes_worse_is_over_as_what_it_was() {
    let notifier = Notifier::default();
    notifier.apply(vec![target("all", Warning), target("worst", Critical)]);
    notifier.tell(alert("a", Warning, true));
    notifier.tell(alert("a", Critical, true));
    assert_eq!(waiting(&notifier, 0), [(Warning, true), (Warning, false), (Critical, true)]);
    assert_eq!(waiting(&notifier, 1), [(Critical, true)]);
    assert_eq!(notifier.firing().len(), 1);
    // Whatever the end is called, it is the end of what fires.
    notifier.tell(alert("a", Warning, false));
    assert_eq!(waiting(&notifier, 0), [(Critical, false)]);
    assert_eq!(waiting(&notifier, 1), [(Critical, false)]);
}

#[test]
fn a_target_that_is_new_hears_of_what_fires() {
    let notifier = Notifier::default();
    notifier.tell(alert("a", Critical, true));
    notifier.apply(vec![target("late", Critical)]);
    assert_eq!(waiting(&notifier, 0), [(Critical, true)]);
    // The same targets again are no news.
    notifier.apply(vec![target("late", Critical)]);
    assert_eq!(waiting(&notifier, 0), []);
}

#[test]
fn too_many_changes_drop_the_oldest_and_are_counted() {
    let notifier = Notifier::default();
    notifier.apply(vec![target("https://slow/secret", Warning)]);
    for n in 0..WAITING_MAX + 3 {
        notifier.tell(alert(&n.to_string(), Warning, true));
    }
    let mut out = MetricFamilies::default();
    notifier.write(&mut out);
    let dropped =
        "sira_notifications_total{target=\"webhook\",url=\"https://slow\",outcome=\"dropped\"} 3";
    assert!(out.text().contains(dropped), "{}", out.text());
    assert_eq!(waiting(&notifier, 0).len(), WAITING_MAX);
}
