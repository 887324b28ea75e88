//! docs/configuration.md is what the commented defaults say.

#[test]
fn the_page_of_settings_has_every_setting() {
    crate::golden("docs/configuration.md", &scanguard::config::reference::page());
}
