use serde_json::json;

use super::*;

#[test]
fn only_asked_fields_that_differ_are_drift() {
    let asked = ConsumerSpec::new("WORK_LOCAL", "default", &["work.local.default.>"]);
    let same = json!({
        "durable_name": "default", "name": "default", "filter_subject": "work.local.default.>",
        "ack_wait": ACK_WAIT_NS, "max_ack_pending": 10_000, "ack_policy": "explicit", "deliver_policy": "all",
        "replay_policy": "instant", "max_deliver": -1, "max_waiting": 512, "num_replicas": 0
    });
    assert_eq!(drift(&asked, &same), []);
    let fields = |change: fn(&mut Value)| {
        let mut found = same.clone();
        change(&mut found);
        drift(&asked, &found).into_iter().map(|drift| drift.field).collect::<Vec<_>>()
    };
    // The filter that old servers drop silently.
    assert_eq!(fields(|found| found["filter_subject"] = Value::Null), ["filter_subjects"]);
    assert_eq!(fields(|found| found["filter_subject"] = json!("work.>")), ["filter_subjects"]);
    assert_eq!(fields(|found| found["headers_only"] = json!(true)), ["headers_only"]);
    assert_eq!(fields(|found| found["max_deliver"] = json!(5)), ["max_deliver"]);
}
