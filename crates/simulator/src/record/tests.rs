use std::collections::BTreeMap;

use super::*;

fn record(simulator: &Simulator, index: u64) -> (Made, Vec<u8>) {
    let mut out = Vec::new();
    let made = simulator.record(index, None, &mut out);
    (made, out)
}

#[test]
fn kinds_come_in_their_shares_and_look_like_it() {
    let simulator = Simulator::new(Profile::default());
    let rows = 200_000u64;
    let (mut counts, mut bytes) = (BTreeMap::new(), 0);
    for index in 0..rows {
        let (made, text) = record(&simulator, index);
        *counts.entry(made).or_insert(0u64) += 1;
        bytes += text.len();
        assert_eq!(made, simulator.made_of(index));
        assert!(!text.contains(&b'\n') && !text.is_empty());
        let value = serde_json::from_slice::<serde_json::Value>(&text);
        assert_eq!(value.is_err(), made == Made::Corrupt, "{}", String::from_utf8_lossy(&text));
        let Ok(value) = value else { continue };
        let amount = value["amount"].as_f64();
        let known = ["USD", "EUR", "GBP"].contains(&value["currency"].as_str().unwrap_or_default());
        match made {
            Made::Invalid => assert!(amount.is_some_and(|a| a <= 0.0) || !known),
            Made::WrongType => {
                assert!(amount.is_none() || value["customer_id"].is_null() || value["timestamp"] == "yesterday");
            }
            _ => {
                assert!(amount.is_some_and(|a| a > 0.0 && a < 1_000_000.0) && known);
                assert_eq!(value["customer_id"], format!("C{:06}", simulator.customer_of(index)));
                assert!(chrono::DateTime::parse_from_rfc3339(value["timestamp"].as_str().unwrap_or_default()).is_ok());
            }
        }
    }
    let share = |made| counts.get(&made).copied().unwrap_or(0) as f64 / rows as f64;
    for (made, expected) in [(Made::Duplicate, 0.01 * 0.981), (Made::Invalid, 0.005), (Made::Corrupt, 0.001), (Made::WrongType, 0.001), (Made::Late, 0.002)] {
        assert!((share(made) - expected).abs() < expected * 0.25, "{made:?}: {} for {expected}", share(made));
    }
    let size = bytes as u64 / rows;
    assert!((270..=380).contains(&size), "{size} bytes a row");
}

#[test]
fn duplicates_repeat_an_earlier_record_byte_for_byte() {
    let simulator = Simulator::new(Profile { duplicates: 0.2, ..Profile::default() });
    let records: Vec<_> = (0..10_000).map(|index| record(&simulator, index)).collect();
    for (index, (made, text)) in records.iter().enumerate() {
        let before = &records[index.saturating_sub(2_000)..index];
        let seen = before.iter().any(|(_, earlier)| earlier == text);
        if *made == Made::Duplicate {
            assert!(seen, "index {index}");
        } else if *made == Made::Good {
            assert!(!seen, "index {index}");
        }
    }
}

#[test]
fn a_record_depends_on_seed_and_index_alone() {
    let (first, second) = (Simulator::new(Profile::default()), Simulator::new(Profile::default()));
    let forward: Vec<_> = (0..3_000).map(|index| record(&first, index)).collect();
    for index in (0..3_000).rev() {
        assert_eq!(record(&second, index), forward[index as usize]);
    }
    let other = Simulator::new(Profile { seed: 43, ..Profile::default() });
    assert_ne!(record(&other, 5), forward[5]);
}

#[test]
fn a_fifth_of_the_customers_makes_four_fifths_of_the_traffic() {
    let simulator = Simulator::new(Profile { customers: 1_000, ..Profile::default() });
    let mut counts = vec![0u64; 1_000];
    for index in 0..200_000 {
        counts[simulator.customer_of(index) as usize] += 1;
    }
    assert!(counts.iter().all(|count| *count > 0));
    counts.sort_unstable_by(|a, b| b.cmp(a));
    let hot = counts[..200].iter().sum::<u64>() as f64 / 200_000.0;
    assert!((0.79..0.81).contains(&hot), "{hot}");
}

#[test]
fn an_override_moves_the_event_time() {
    let simulator = Simulator::new(Profile { disorder_micros: 0, late: 0.0, duplicates: 0.0, corrupt: 0.0, ..Profile::default() });
    let mut out = Vec::new();
    simulator.record(7, Some(1_000_000), &mut out);
    assert!(String::from_utf8_lossy(&out).contains("\"timestamp\":\"1970-01-01T00:00:01.000000Z\""));
}

/// Bytes that depend on every purpose there was when this was written: new fields of [`Profile`] must not move them.
#[test]
fn a_seed_keeps_its_bytes_for_ever() {
    let simulator = Simulator::new(Profile::default());
    let mut out = Vec::new();
    for index in 0..20_000 {
        simulator.record(index, None, &mut out);
        out.push(b'\n');
    }
    let digest = out.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    assert_eq!((out.len(), digest), (6_415_602, 0x2cf6_57a3_e859_109b));
}

#[test]
fn hot_customers_have_their_share() {
    let simulator = Simulator::new(Profile { hot_customers_share: 0.3, hot_customers: 3, ..Profile::default() });
    let hot = simulator.hot_customers();
    assert_eq!(hot.len(), 3);
    let mut counts = [0u64; 3];
    for index in 0..100_000 {
        let customer = simulator.customer_of(index);
        if let Some(which) = hot.iter().position(|hot| *hot == customer) {
            counts[which] += 1;
        }
    }
    assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
    assert!(Simulator::new(Profile::default()).hot_customers().is_empty());
}

#[test]
fn a_share_of_event_times_is_in_order() {
    let profile = Profile { disorder_share: 0.25, late: 0.0, duplicates: 0.0, corrupt: 0.0, invalid: 0.0, ..Profile::default() };
    let simulator = Simulator::new(profile);
    let mut behind = 0;
    for index in 0..10_000 {
        let (_, record) = record(&simulator, index);
        let text = String::from_utf8_lossy(&record).into_owned();
        let at = text.find("\"timestamp\":\"").expect("a time") + 13;
        let time = chrono::DateTime::parse_from_rfc3339(&text[at..at + 27]).expect("a time").timestamp_micros();
        behind += u64::from(time != simulator.base_micros(index));
    }
    assert!((2_300..2_700).contains(&behind), "{behind}");
}

#[test]
fn the_customer_comes_with_the_record() {
    let simulator = Simulator::new(Profile { hot_customers_share: 0.2, ..Profile::default() });
    for index in 0..5_000 {
        let (mut plain, mut with, mut id) = (Vec::new(), Vec::new(), Vec::new());
        let made = simulator.record(index, None, &mut plain);
        let (same, customer) = simulator.record_of_customer(index, None, &mut with);
        assert_eq!((made, &plain, customer), (same, &with, simulator.customer_of(index)));
        customer_id(customer, &mut id);
        if matches!(made, Made::Good | Made::Duplicate) {
            let id = String::from_utf8(id).expect("text");
            assert!(String::from_utf8_lossy(&with).contains(&format!("\"customer_id\":\"{id}\"")));
        }
    }
}
