use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;

const TEMPLATES: [&str; 9] = [
    include_str!("../../../../templates/base.html"),
    include_str!("../../../../templates/layout.html"),
    include_str!("../../../../templates/not_served.html"),
    include_str!("../../../../templates/operators.html"),
    include_str!("../../../../templates/operators_layout.html"),
    include_str!("../../../../templates/operators_sale.html"),
    include_str!("../../../../templates/orders.html"),
    include_str!("../../../../templates/sale.html"),
    include_str!("../../../../templates/shelf.html"),
];
const SIGN_IN: &str = include_str!("../../../../templates/sign_in.html");
const COMMON_SCRIPT: &str = include_str!("../../../../assets/common.js");
const SHOP_SCRIPTS: [&str; 3] = [
    include_str!("../../../../assets/account_pages.js"),
    include_str!("../../../../assets/sale_page.js"),
    include_str!("../../../../assets/shop.js"),
];
const OPERATORS_SCRIPTS: [&str; 5] = [
    include_str!("../../../../assets/live_plots.js"),
    include_str!("../../../../assets/operators.js"),
    include_str!("../../../../assets/operators_common.js"),
    include_str!("../../../../assets/operators_deeds.js"),
    include_str!("../../../../assets/operators_sale.js"),
];
const SERVER: [&str; 3] = [
    include_str!("mod.rs"),
    include_str!("../shop.rs"),
    include_str!("../mod.rs"),
];

fn scripts() -> impl Iterator<Item = &'static str> {
    let common = [COMMON_SCRIPT].into_iter();
    common.chain(SHOP_SCRIPTS).chain(OPERATORS_SCRIPTS)
}

fn templates() -> impl Iterator<Item = &'static str> {
    TEMPLATES.into_iter().chain([SIGN_IN])
}

/// Each `<prefix>name` in a source.
fn names_after(source: &'static str, prefix: &str) -> BTreeSet<&'static str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let name = |rest: &'static str| rest.split(|c| !is_name(c)).next();
    source.split(prefix).skip(1).filter_map(name).collect()
}

fn asked_for(prefixes: [&str; 3]) -> BTreeSet<&'static str> {
    let [template, script, server] = prefixes;
    let of = |source, prefix| names_after(source, prefix);
    templates()
        .flat_map(|source| of(source, template))
        .chain(scripts().flat_map(|source| of(source, script)))
        .chain(SERVER.iter().flat_map(|source| of(source, server)))
        .collect()
}

fn members(texts: &Value) -> BTreeSet<&str> {
    texts
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

#[test]
fn every_text_is_shown_somewhere_and_every_text_that_is_asked_for_is_there() {
    let texts = json!(Language::English.texts());
    let asked = asked_for(["page.texts.", "TEXTS.", "texts."]);
    for name in members(&texts) {
        let shown = asked.contains(name)
            || templates().any(|source| source.contains(&format!("page.other.{name}")))
            || SERVER
                .iter()
                .any(|source| source.contains(&format!("self.{name}")));
        assert!(shown, "nobody shows {name}");
    }
    for name in scripts().flat_map(|s| names_after(s, "TEXTS.")) {
        assert!(members(&texts).contains(name), "no text is called {name}");
    }
    let asked = asked_for(["page.texts.operators.", "WORDS.", "operators."]);
    let operators = OPERATORS_SCRIPTS.map(|script| names_after(script, "WORDS."));
    let known = members(&texts["operators"]);
    for name in &known {
        assert!(asked.contains(name), "nobody shows operators.{name}");
    }
    for name in operators.into_iter().flatten() {
        assert!(known.contains(name), "no text is called operators.{name}");
    }
}

#[test]
fn languages_fill_in_the_same_and_leave_nothing_empty_or_in_the_other() {
    fn leaves<'a>(value: &'a Value, path: &str, found: &mut Vec<(String, &'a str)>) {
        if let Some(members) = value.as_object() {
            for (name, member) in members {
                leaves(member, &format!("{path}.{name}"), found);
            }
        } else {
            found.push((path.to_owned(), value.as_str().unwrap()));
        }
    }
    let [english, chinese] = Language::ALL.map(|language| json!(language.texts()));
    let (mut en, mut zh) = (Vec::new(), Vec::new());
    leaves(&english, "", &mut en);
    leaves(&chinese, "", &mut zh);
    for ((path, en), (_, zh)) in en.into_iter().zip(zh) {
        let holes = |text: &str| text.matches("{}").count();
        assert_eq!(holes(en), holes(zh), "{path}");
        assert!(!en.is_empty() && !zh.is_empty(), "{path}");
        let is_han = |c: char| ('\u{4e00}'..='\u{9fff}').contains(&c);
        let exempt = [".tag", ".left_before", ".units_at_most_after"].contains(&path.as_str());
        assert!(exempt || zh.contains(is_han), "{path} is not Chinese: {zh}");
        assert!(!en.contains(is_han), "{path} is not English: {en}");
    }
}

/// What is between tags, without what askama fills in.
fn written_between_tags(template: &str) -> String {
    let mut kept = String::new();
    let name_of_the_page = template.lines().find(|l| l.starts_with("{% block page %}"));
    let without = template.replacen(name_of_the_page.unwrap_or_default(), "", 1);
    let mut rest = without.as_str();
    while let Some(at) = rest.find(['<', '{']) {
        kept.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = match &rest[..2] {
            "{{" => "}}",
            "{%" => "%}",
            _ => ">",
        };
        rest = &rest[rest.find(end).unwrap() + end.len()..];
    }
    kept + rest
}

#[test]
fn templates_have_no_words_of_their_own() {
    for template in templates() {
        let written = written_between_tags(template);
        assert!(!written.contains(char::is_alphabetic), "{written}");
        for attribute in ["aria-label", "placeholder", "alt"] {
            let begins = format!(" {attribute}=\"");
            let mut values = template.split(&begins).skip(1);
            assert!(values.all(|value| value.starts_with("{{")), "{attribute}");
        }
    }
}

/// The strings of a script, of which none begins on one line and ends on another.
fn strings(script: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for line in script.lines().filter(|l| !l.trim_start().starts_with("//")) {
        for quote in ['"', '`'] {
            found.extend(line.split(quote).skip(1).step_by(2));
        }
    }
    found
}

/// A word beside a space, a word with a capital, or a letter that no identifier has.
fn is_for_people(text: &str) -> bool {
    let letters = |word: &str| word.len() > 1 && word.chars().all(|c| c.is_ascii_alphabetic());
    let is_foreign = |c: char| !c.is_ascii() && c.is_alphabetic();
    let has_space = text.trim() != text || text.contains(' ');
    let capital = text.starts_with(|c: char| c.is_ascii_uppercase());
    let spoken = letters(text) && capital && !["GET", "POST"].contains(&text);
    text.chars().any(is_foreign) || spoken || (has_space && text.split(' ').any(letters))
}

#[test]
fn scripts_have_no_words_of_their_own() {
    for text in ["Sold out", "Paid", "在售", "${n} units", "BROKEN"] {
        assert!(is_for_people(text), "{text}");
    }
    for script in scripts() {
        for text in strings(script) {
            assert!(text == "Bearer ${bearer}" || !is_for_people(text), "{text}");
        }
    }
}
