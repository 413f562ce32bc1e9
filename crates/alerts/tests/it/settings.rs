//! `[alerts]` as people write it, and what they are told when it is wrong.

use watershed_alerts::{Plan, Settings, Severity};

fn refused(toml: &str) -> String {
    let settings: Settings = match toml::from_str(toml) {
        Ok(settings) => settings,
        Err(error) => return error.message().to_owned(),
    };
    let error = Plan::new(&settings, &|name| (name == "SET").then(|| "v".to_owned())).expect_err(toml);
    format!("{}: {} · {}", error.code(), error.message(), error.next_step().unwrap_or_default())
}

#[test]
fn what_is_wrong_is_named_with_the_next_step() {
    let table = [
        ("[default.lag-growin]\nthreshold = 5", "ALR0003: there is no default rule \"lag-growin\" · Did you mean [alerts.default.lag-growing]?"),
        (
            "[default.quarantine-rate]\nthreshold = 5",
            "ALR0003: default rule \"quarantine-rate\" cannot have the threshold 5 · Its threshold counts of the records read: write a share, from 0 to 1. Without a threshold it is 0.01.",
        ),
        (
            "[default.lag-growing]\nthreshold = -1",
            "ALR0003: default rule \"lag-growing\" cannot have the threshold -1 · Its threshold counts records: write a number from 0 on. Without a threshold it is 100000.",
        ),
        ("[default.skew]\nthreshold = 5", "ALR0003: default rule \"skew\" has no threshold · Turn it off with enabled = false, and write a rule of your own in [[alerts.rules]]."),
        (
            "[[rules]]\nname = \"skew\"\nwhen = \"lag > 1\"",
            "ALR0003: there are two rules \"skew\" · Rename one of them; a default rule is changed by [alerts.default.NAME], or turned off there with enabled = false.",
        ),
        ("[[rules]]\nname = \"x\"", "ALR0003: rule \"x\" looks at nothing · Give it when = \"a condition over metrics\", or sql = \"SELECT …\"."),
        (
            "[[rules]]\nname = \"x\"\nwhen = \"lag > 1 for 5m\"\nfor = \"1m\"",
            "ALR0003: rule \"x\" says twice how long it must last · Write it at the end of the condition, or as for = \"5m\".",
        ),
        ("[[rules]]\nname = \"x\"\nwhen = \"lag > 1\"\nseverity = \"high\"", "ALR0003: rule \"x\": there is no severity \"high\" · Write P0, P1, P2 or P3."),
        ("[[rules]]\nname = \"x\"\nwhen = \"lag > 1\"\nroutes = [\"logg\"]", "ALR0003: rule \"x\" goes to route \"logg\", which is not there · Did you mean \"log\"?"),
        (
            "[[rules]]\nname = \"x\"\nsql = \"SELECT 1 AS n\"\nwhen = \"rate(n[5m]) > 1\"",
            "ALR0003: rule \"x\": the rows of a query have no past to look back on · Compute the change in the query itself, or use a metric.",
        ),
        (
            "[routes.a]\ntype = \"pagerduty\"\nrouting_key = \"${UNSET}\"",
            "ALR0005: [alerts.routes.a] routing_key: variable UNSET is not set · Set it in the environment, or give a default: ${UNSET:-value}.",
        ),
        ("[routes.a]\ntype = \"slack\"\nurl = \"hooks.slack.com/x\"", "ALR0004: route \"a\": url is not an address · Write it as https://host/path."),
        (
            "[routes.a]\ntype = \"email\"\nurl = \"smtp://h\"\nfrom = \"nobody\"\nto = [\"a@b.c\"]",
            "ALR0004: route \"a\": from: \"nobody\" is not a mail address · Write it as name@example.com or Name <name@example.com>.",
        ),
        ("[routes.a]\ntype = \"log\"\nseverities = [\"P9\"]", "ALR0004: route \"a\": there is no severity \"P9\" · Write P0, P1, P2 or P3."),
        ("[routes.a]\ntype = \"log\"\nrules = [\"skeww\"]", "ALR0004: route \"a\" wants rule \"skeww\", which is not there · Did you mean \"skew\"?"),
    ];
    for (toml, expected) in table {
        assert_eq!(refused(toml), expected, "{toml}");
    }
    for (toml, words) in [
        ("[routes.a]\ntype = \"pager\"", "unknown variant `pager`"),
        ("[routes.a]\ntype = \"slack\"\nurl = \"http://h/\"\nchanel = \"x\"", "unknown field `chanel`"),
        ("interval = \"soon\"", "\"soon\" is not a duration such as \"10s\""),
        ("[[rules]]\nname = \"x\"\nwehn = \"lag > 1\"", "unknown field `wehn`"),
    ] {
        assert!(refused(toml).contains(words), "{toml}: {}", refused(toml));
    }
}

#[test]
fn default_rules_are_on_and_can_be_changed_one_by_one() {
    let read = |toml: &str| Plan::new(&toml::from_str(toml).expect("settings"), &|_| None).expect("a plan");
    let all = read("");
    assert_eq!(all.rules.len(), 17);
    assert!(all.routes.len() == 1 && all.routes["log"].target.kind() == "log", "without routes the log is told");
    let changed = read("[default.lag-growing]\nthreshold = 5\nfor = \"1m\"\nseverity = \"p0\"\n[default.skew]\nenabled = false\n");
    assert_eq!(changed.rules.len(), 16);
    let lag = changed.rules.iter().find(|rule| rule.name == "lag-growing").expect("it is there");
    assert_eq!((lag.severity, lag.condition().as_str()), (Severity::P0, "watershed_source_lag_records > 5 and watershed_source_falling_behind == 1 for 1m"));
    assert_eq!(read("default_rules = false").rules.len(), 0);
    assert_eq!(read("runbooks = \"https://wiki/x/\"").runbook(lag).as_deref(), Some("https://wiki/x/lag-growing.md"));
}
