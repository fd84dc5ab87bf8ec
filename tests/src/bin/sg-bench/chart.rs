//! Charts as SVG: lines over a logarithmic axis, and bars. As little as the documents need, so that no
//! drawing library has to be had for it; a chart of the same figures is the same file.

use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 190.0;
const TOP: f64 = 48.0;
const HEIGHT: f64 = 260.0;
/// Told apart by those who see fewer colours, too.
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

/// A chart, and the file that it goes to.
#[derive(Clone, Debug)]
pub(crate) struct Chart {
    /// The file's name, without its ending.
    pub(crate) name: &'static str,
    /// The whole file.
    pub(crate) svg: String,
}

/// A line's name, and its points from left to right.
pub(crate) type Line = (String, Vec<(f64, f64)>);

/// Lines over an axis on which each step is ten times the one before.
pub(crate) fn lines(name: &'static str, title: &str, across: &str, up: &str, lines: &[Line]) -> Chart {
    let points = || lines.iter().flat_map(|(_, points)| points);
    let decades = |value: f64| value.max(1.0).log10();
    let first = points().map(|(x, _)| decades(*x)).fold(f64::INFINITY, f64::min).floor();
    let last = points().map(|(x, _)| decades(*x)).fold(0.0, f64::max).ceil().max(first + 1.0);
    let (step, most) = scale(points().map(|(_, y)| *y).fold(0.0, f64::max));
    let x = |value: f64| LEFT + (decades(value) - first) / (last - first) * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| TOP + HEIGHT * (1.0 - value / most);
    let mut body = String::new();
    let mut mark = 0.0;
    while mark <= most {
        rule(&mut body, [LEFT, y(mark), WIDTH - RIGHT, y(mark)]);
        text(&mut body, LEFT - 8.0, y(mark) + 4.0, "end", &number(mark));
        mark += step;
    }
    for decade in first as i32..=last as i32 {
        let value = 10_f64.powi(decade);
        text(&mut body, x(value), TOP + HEIGHT + 18.0, "middle", &number(value));
    }
    text(&mut body, (LEFT + WIDTH - RIGHT) / 2.0, TOP + HEIGHT + 38.0, "middle", across);
    text(&mut body, LEFT - 8.0, TOP - 10.0, "end", up);
    for (index, (label, points)) in lines.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let path: Vec<_> = points.iter().map(|&(px, py)| format!("{:.1},{:.1}", x(px), y(py))).collect();
        let _ = writeln!(
            body,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            path.join(" ")
        );
        for &(px, py) in points {
            let _ =
                writeln!(body, "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"/>", x(px), y(py));
        }
        let row = TOP + 14.0 + 20.0 * index as f64;
        let _ = writeln!(
            body,
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"14\" height=\"4\" fill=\"{colour}\"/>",
            WIDTH - RIGHT + 16.0,
            row - 6.0
        );
        text(&mut body, WIDTH - RIGHT + 36.0, row, "start", label);
    }
    Chart { name, svg: whole(title, TOP + HEIGHT + 50.0, &body) }
}

/// Bars below each other, the longest the most.
pub(crate) fn bars(name: &'static str, title: &str, unit: &str, bars: &[(String, f64)]) -> Chart {
    const ROW: f64 = 26.0;
    const NAMES: f64 = 250.0;
    let most = bars.iter().map(|(_, value)| *value).filter(|value| value.is_finite()).fold(0.0, f64::max);
    let mut body = String::new();
    for (index, (label, value)) in bars.iter().enumerate() {
        let top = TOP + ROW * index as f64;
        let length = if most > 0.0 { value / most * (WIDTH - NAMES - 130.0) } else { 0.0 };
        text(&mut body, NAMES - 10.0, top + 15.0, "end", label);
        let _ = writeln!(
            body,
            "<rect x=\"{NAMES}\" y=\"{:.1}\" width=\"{length:.1}\" height=\"18\" fill=\"{}\"/>",
            top + 2.0,
            COLOURS[0]
        );
        text(&mut body, NAMES + length + 8.0, top + 15.0, "start", &format!("{} {unit}", number(*value)));
    }
    Chart { name, svg: whole(title, TOP + ROW * bars.len() as f64 + 16.0, &body) }
}

fn whole(title: &str, height: f64, body: &str) -> String {
    let mut head = String::new();
    text(&mut head, 16.0, 24.0, "start", title);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{head}{body}</svg>\n"
    )
}

fn text(out: &mut String, x: f64, y: f64, anchor: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"#222222\">{words}</text>"
    );
}

fn rule(out: &mut String, [x1, y1, x2, y2]: [f64; 4]) {
    let _ = writeln!(
        out,
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"#dddddd\"/>"
    );
}

/// A round step, and the first multiple of it that nothing goes past.
fn scale(most: f64) -> (f64, f64) {
    let rough = (most / 5.0).max(f64::MIN_POSITIVE);
    let decade = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * decade).into_iter().find(|step| *step >= rough);
    let step = step.unwrap_or(rough);
    (step, (most / step).ceil().max(1.0) * step)
}

/// As short as it can be read.
fn number(value: f64) -> String {
    let (value, unit) = match value.abs() {
        size if size >= 1e9 => (value / 1e9, "G"),
        size if size >= 1e6 => (value / 1e6, "M"),
        size if size >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let digits = if value.abs() >= 100.0 || value.fract() == 0.0 { 0 } else { 2 };
    let text = format!("{value:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{}{unit}", if unit.is_empty() { "" } else { " " })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_axis_ends_where_nothing_goes_past() {
        for most in [0.0, 0.3, 1.0, 7.0, 99.0, 101.0, 570.0] {
            let (step, end) = scale(most);
            assert!(end >= most && step > 0.0 && end / step <= 10.0, "{most}: {step} {end}");
        }
    }

    #[test]
    fn charts_hold_every_point_and_no_raw_markup() {
        let chart = lines("x", "a < b", "n", "ns", &[("one".into(), vec![(10.0, 1.0), (1e6, 2.0)])]);
        assert_eq!(chart.svg.matches("<circle").count(), 2);
        assert!(
            chart.svg.contains("a &lt; b") && chart.svg.starts_with("<svg") && !chart.svg.contains("NaN")
        );
        let chart = bars("y", "bars", "Mpps", &[("one".into(), 1.0), ("two".into(), 0.5)]);
        assert_eq!(chart.svg.matches("<rect").count(), 3);
    }

    #[test]
    fn numbers_are_short() {
        for (value, expected) in
            [(1e6, "1 M"), (12_500.0, "12.5 k"), (0.0, "0"), (0.85, "0.85"), (150.0, "150")]
        {
            assert_eq!(number(value), expected);
        }
    }
}
