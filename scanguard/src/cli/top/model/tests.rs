use std::time::Duration;

use anyhow::anyhow;
use ratatui::crossterm::event::KeyCode;

use super::*;
use crate::cli::top::testing::{model, press, snapshot, sources, typed};

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn selected(model: &Model) -> String {
    model.subject().map(name).unwrap_or_default()
}

#[test]
fn nothing_is_banned_without_a_yes() {
    let mut model = model();
    assert_eq!(press(&mut model, &typed("b")), None);
    assert_eq!(model.question, Some(Question::Ban(net("192.0.2.7/32"))));
    assert_eq!(press(&mut model, &[KeyCode::Enter]), None);
    assert_eq!(model.question, None);
    assert_eq!(press(&mut model, &typed("bx")), None);
    assert_eq!(press(&mut model, &typed("an")), None);
    let order = Order::Ban(net("192.0.2.7/32"), Some(Duration::from_secs(3_600)));
    assert_eq!(press(&mut model, &typed("bh")), Some(Effect::Order(order)));
    let order = Order::Allow(net("192.0.2.7/32"));
    assert_eq!(press(&mut model, &typed("ay")), Some(Effect::Order(order)));
    assert_eq!(model.question, None);
}

#[test]
fn what_is_selected_stays_selected_when_the_order_changes() {
    let mut model = model();
    press(&mut model, &[KeyCode::Down]);
    assert_eq!(selected(&model), "2001:db8:1234:5678::/64");
    let mut next = snapshot(model.wanted(), 9);
    next.sources.sources.rotate_left(1);
    model.take(next);
    assert_eq!((selected(&model).as_str(), model.table.selected()), ("2001:db8:1234:5678::/64", Some(0)));
}

#[test]
fn an_order_from_a_detail_is_about_its_source_whatever_the_list_does() {
    let mut model = model();
    press(&mut model, &[KeyCode::Enter]);
    let mut next = snapshot(model.wanted(), 9);
    next.sources.sources.remove(0);
    model.take(next);
    press(&mut model, &typed("b"));
    assert_eq!(model.question, Some(Question::Ban(net("192.0.2.7/32"))));
}

#[test]
fn a_paused_list_stays_as_it_is_and_a_detail_still_comes() {
    let mut model = model();
    press(&mut model, &typed("p"));
    let mut next = snapshot(model.wanted(), 30);
    next.sources.sources.clear();
    model.take(next);
    assert_eq!(model.sources, Some(sources(8)));
    assert_eq!(press(&mut model, &[KeyCode::Enter]), Some(Effect::Refresh));
    assert!(model.detail.is_some());
    assert_eq!(press(&mut model, &[KeyCode::Esc, KeyCode::Char('p')]), Some(Effect::Refresh));
    assert_eq!(model.sources, Some(sources(9)));
}

#[test]
fn the_filter_keeps_what_has_its_text() {
    let mut model = model();
    press(&mut model, &typed("/VERTICAL"));
    assert_eq!(model.rows().unwrap().len(), 1);
    press(&mut model, &typed("x"));
    assert_eq!((model.rows().unwrap().len(), selected(&model).as_str()), (0, ""));
    assert_eq!(press(&mut model, &[KeyCode::Enter, KeyCode::Char('b')]), None);
    assert_eq!(model.question, None, "there is nobody to ban");
    press(&mut model, &[KeyCode::Esc]);
    assert_eq!(model.rows().unwrap().len(), 3);
}

#[test]
fn rates_are_what_came_between_two_readings_of_the_counters() {
    let mut model = model();
    assert_eq!(model.traffic, Some(Traffic { packets: 1_000.0, probes: 25.0 }));
    // The agent has not read its counters again.
    model.take(snapshot(model.wanted(), 8));
    assert_eq!(model.traffic, Some(Traffic { packets: 1_000.0, probes: 25.0 }));
    let rates: Vec<_> = model.rates(net("192.0.2.7/32")).collect();
    assert_eq!(rates[..3], [1.0, 2.0, 3.0]);
}

#[test]
fn what_is_kept_of_rates_is_bounded_and_goes_with_its_source() {
    let mut model = model();
    for second in 0..200 {
        model.take(snapshot(model.wanted(), second % 60));
    }
    assert_eq!(model.rates(net("192.0.2.7/32")).count(), SPARKS);
    let mut next = snapshot(model.wanted(), 9);
    next.sources.sources.clear();
    model.take(next);
    assert_eq!((model.rates.len(), selected(&model).as_str()), (0, ""));
}

#[test]
fn an_agent_that_is_gone_leaves_the_old_picture_with_the_reason() {
    let mut model = model();
    model.fail(&anyhow!("no agent answers"));
    assert_eq!(model.rows().unwrap().len(), 3);
    assert_eq!(model.error.as_deref(), Some("no agent answers"));
    model.take(snapshot(model.wanted(), 9));
    assert_eq!(model.error, None);
}

#[test]
fn what_was_asked_before_the_tab_changed_is_asked_again() {
    let mut model = model();
    assert!(!model.stale());
    let late = snapshot(model.wanted(), 9);
    model.press(KeyCode::Tab.into());
    model.take(late);
    assert!(model.stale() && model.rows().is_none());
    model.take(snapshot(model.wanted(), 10));
    assert!(!model.stale() && model.rows().unwrap().len() == 1);
}

#[test]
fn a_detail_that_comes_late_is_not_shown_as_that_of_another_source() {
    let mut model = model();
    model.press(KeyCode::Enter.into());
    let late = snapshot(model.wanted(), 9);
    for key in [KeyCode::Esc, KeyCode::Down, KeyCode::Enter] {
        model.press(key.into());
    }
    model.take(late);
    assert_eq!(
        (model.page, model.detail.is_none()),
        (Some(Page::Detail(net("2001:db8:1234:5678::/64"))), true)
    );
    assert!(model.stale(), "what is wanted now is asked for");
}

#[test]
fn what_is_not_sorted_says_so_and_leaves_the_sources_as_they_were() {
    let mut model = model();
    for tab in ["2", "3"] {
        press(&mut model, &typed(tab));
        let before = model.sort;
        assert_eq!(press(&mut model, &typed("s")), None);
        assert!(model.sort == before && model.message.is_some(), "{tab}");
    }
    press(&mut model, &typed("1"));
    assert_eq!(press(&mut model, &typed("s")), Some(Effect::Refresh));
}
