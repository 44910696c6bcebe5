//! The throughput of all rungs, as a picture.

use crate::render::spread;
use crate::report::Report;
use crate::scenario::Verdict;

const ROW_PX: usize = 22;
const LABEL_PX: usize = 170;
const BAR_PX: f64 = 480.0;
const WIDTH_PX: usize = 760;
const TOP_PX: usize = 64;
const SAFE: &str = "#2e7d5b";
const BROKEN: &str = "#c0562f";

/// An SVG: a bar for each rung that has a load, accepted orders a second, on a logarithmic scale from 1;
/// of another colour where it oversells or loses units in any scenario.
#[must_use]
pub fn throughput(report: &Report) -> String {
    let rows: Vec<(&str, f64, bool)> = report
        .rungs
        .iter()
        .filter_map(|rung| {
            let (_, load, _) = spread(&rung.loads, |load| load.accepted_per_second)?;
            let mut all = rung.outcomes.iter().chain(&rung.loads);
            let keeps_stock = all.all(|outcome| {
                !matches!(
                    outcome.verdict,
                    Verdict::Oversells | Verdict::Blocks | Verdict::LosesUnits
                )
            });
            Some((rung.name.as_str(), load.accepted_per_second, keeps_stock))
        })
        .collect();
    let most = rows.iter().map(|row| row.1).fold(10.0, f64::max).log10();
    let height = TOP_PX + rows.len() * ROW_PX + 10;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH_PX} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH_PX}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"10\" y=\"22\" font-size=\"15\">Accepted orders a second, median of the rounds, logarithmic scale</text>\n\
         <rect x=\"10\" y=\"36\" width=\"12\" height=\"12\" fill=\"{SAFE}\"/>\n\
         <text x=\"28\" y=\"46\">keeps the stock right in every scenario</text>\n\
         <rect x=\"300\" y=\"36\" width=\"12\" height=\"12\" fill=\"{BROKEN}\"/>\n\
         <text x=\"318\" y=\"46\">oversells, blocks or loses units in at least one</text>\n"
    );
    for (index, (name, per_second, keeps_stock)) in rows.iter().enumerate() {
        let y = TOP_PX + index * ROW_PX;
        let baseline = y + 13;
        let width = BAR_PX * per_second.max(1.0).log10() / most;
        let after = LABEL_PX as f64 + width + 6.0;
        let colour = if *keeps_stock { SAFE } else { BROKEN };
        let label = LABEL_PX - 8;
        svg.push_str(&format!(
            "<text x=\"{label}\" y=\"{baseline}\" text-anchor=\"end\">{name}</text>\n\
             <rect x=\"{LABEL_PX}\" y=\"{y}\" width=\"{width:.0}\" height=\"16\" fill=\"{colour}\"/>\n\
             <text x=\"{after:.0}\" y=\"{baseline}\">{per_second:.0}</text>\n"
        ));
    }
    svg.push_str("</svg>\n");
    svg
}
