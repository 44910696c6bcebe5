//! Lines over two axes, as an SVG.

use std::fmt::Write as _;

const WIDTH_PX: f64 = 760.0;
const HEIGHT_PX: f64 = 380.0;
const LEFT_PX: f64 = 70.0;
const RIGHT_PX: f64 = 20.0;
const TOP_PX: f64 = 40.0;
const BOTTOM_PX: f64 = 50.0;
const STEPS: u32 = 5;

/// One line, with a dot at each point.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) colour: &'static str,
    pub(super) dashed: bool,
    pub(super) points: Vec<(f64, f64)>,
}

/// Both axes begin at zero. `x` and `y` say what they show.
pub(super) fn lines(x: &str, y: &str, lines: &[Line]) -> String {
    let all = || lines.iter().flat_map(|line| &line.points);
    let most_x = round_up(all().map(|point| point.0).fold(0.0, f64::max));
    let most_y = round_up(all().map(|point| point.1).fold(0.0, f64::max));
    let (width, height) = (
        WIDTH_PX - LEFT_PX - RIGHT_PX,
        HEIGHT_PX - TOP_PX - BOTTOM_PX,
    );
    let at_x = |value: f64| LEFT_PX + width * value / most_x;
    let at_y = |value: f64| TOP_PX + height * (1.0 - value / most_y);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH_PX} {HEIGHT_PX}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH_PX}\" height=\"{HEIGHT_PX}\" fill=\"#ffffff\"/>\n\
         <text x=\"10\" y=\"22\" font-size=\"15\">{y}</text>\n\
         <text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{x}</text>\n",
        WIDTH_PX - RIGHT_PX,
        HEIGHT_PX - 10.0
    );
    let (right, bottom) = (at_x(most_x), at_y(0.0));
    for step in 0..=STEPS {
        let share = f64::from(step) / f64::from(STEPS);
        let (grid_x, grid_y) = (at_x(most_x * share), at_y(most_y * share));
        let _ = write!(
            svg,
            "<path d=\"M{LEFT_PX} {grid_y:.1}H{right}M{grid_x:.1} {TOP_PX}V{bottom}\" stroke=\"#dddddd\"/>\n\
             <text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{:.0}</text>\n\
             <text x=\"{grid_x:.0}\" y=\"{:.0}\" text-anchor=\"middle\">{:.0}</text>\n",
            LEFT_PX - 6.0,
            grid_y + 4.0,
            most_y * share,
            bottom + 16.0,
            most_x * share,
        );
    }
    for (number, line) in lines.iter().enumerate() {
        let points: Vec<_> = line
            .points
            .iter()
            .map(|(x, y)| (at_x(*x), at_y(*y)))
            .collect();
        svg.push_str(&drawn(line, &points, number));
    }
    svg.push_str("</svg>\n");
    svg
}

/// The line through `points`, and its name as the `number`th of all.
fn drawn(line: &Line, points: &[(f64, f64)], number: usize) -> String {
    let (colour, name) = (line.colour, &line.name);
    let dashes = if line.dashed {
        " stroke-dasharray=\"5 4\""
    } else {
        ""
    };
    let path: Vec<String> = points
        .iter()
        .map(|(x, y)| format!("{x:.1},{y:.1}"))
        .collect();
    let mut svg = format!(
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{dashes}/>\n",
        path.join(" ")
    );
    for (x, y) in points {
        let _ = writeln!(
            svg,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>"
        );
    }
    let y = TOP_PX + 16.0 + 18.0 * number as f64;
    let _ = write!(
        svg,
        "<path d=\"M{:.0} {y}h26\" stroke=\"{colour}\" stroke-width=\"2\"{dashes}/>\n\
         <text x=\"{:.0}\" y=\"{:.0}\">{name}</text>\n",
        LEFT_PX + 12.0,
        LEFT_PX + 46.0,
        y + 4.0
    );
    svg
}

/// The next of 1, 2, 2.5 and 5 times a power of ten: a fifth of each is easily read.
fn round_up(most: f64) -> f64 {
    let power = 10f64.powf(most.max(1e-9).log10().floor());
    let steps = [1.0, 2.0, 2.5, 5.0, 10.0];
    let step = steps.into_iter().find(|step| step * power >= most);
    step.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers_that_hold_every_point() {
        let ends = [0.7, 1.0, 21.0, 18_884.0, 30_000.0, 99.0].map(round_up);
        assert_eq!(ends, [1.0, 1.0, 25.0, 20_000.0, 50_000.0, 100.0]);
    }

    #[test]
    fn points_stand_where_the_axes_say() {
        let line = Line {
            name: "a line".to_owned(),
            colour: "#2e7d5b",
            dashed: false,
            points: vec![(0.0, 0.0), (100.0, 10.0)],
        };
        let svg = lines("x", "y", &[line]);
        assert!(svg.contains("points=\"70.0,330.0 740.0,40.0\""), "{svg}");
        assert!(svg.contains(">a line</text>"), "{svg}");
    }
}
