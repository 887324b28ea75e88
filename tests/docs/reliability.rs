//! docs/reliability.md is what the table of faults says.

#[test]
fn the_page_of_faults_has_every_fault() {
    crate::golden("docs/reliability.md", &scanguard_tests::tables::faults::page());
}
