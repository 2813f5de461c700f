//! A chart of lifecycles per second by system: bars on a logarithmic scale, an SVG that can be read
//! on light and dark backgrounds.

use std::fmt::Write as _;

use super::goals::BATCHES;
use super::report::Row;
use super::system::Workload;
use super::text::{grouped, of, systems};

const WIDTH: f64 = 1010.0;
const LEFT: f64 = 400.0;
/// Room for the figure behind the longest bar.
const RIGHT: f64 = 100.0;
const TOP: f64 = 56.0;
const BAR: f64 = 22.0;
const STEP: f64 = 38.0;

/// The head of every chart.
pub(crate) fn open(width: f64, height: f64, title: &str) -> String {
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" aria-label="{title}">
<title>{title}</title>
<style>
  text {{ font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328; }}
  .title {{ font-size: 16px; font-weight: 600; }}
  .small {{ font-size: 11px; fill: #59636e; }}
  .line {{ font-size: 12px; }}
  .grid {{ stroke: #d1d9e0; stroke-width: 1; }}
  .ours {{ font-weight: 600; }}
  @media (prefers-color-scheme: dark) {{
    text {{ fill: #f0f6fc; }}
    .small {{ fill: #9198a1; }}
    .grid {{ stroke: #3d444d; }}
  }}
</style>
"#,
        title = escaped(title)
    )
}

/// A line of text.
pub(crate) fn label(svg: &mut String, (x, y): (f64, f64), class: &str, anchor: &str, text: &str) {
    let text = escaped(text);
    // Writing to a String cannot fail.
    let _ = writeln!(
        svg,
        r#"<text x="{x:.1}" y="{y:.1}" class="{class}" text-anchor="{anchor}">{text}</text>"#
    );
}

/// A line of the grid.
pub(crate) fn grid(svg: &mut String, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
    let _ = writeln!(
        svg,
        r#"<line class="grid" x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}"/>"#
    );
}

/// Text without markup.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// The exponents of the powers of ten around these values.
pub(crate) fn decades(values: impl Iterator<Item = f64>) -> Option<(i32, i32)> {
    let mut range: Option<(f64, f64)> = None;
    for value in values.filter(|value| *value > 0.0) {
        range =
            Some(range.map_or((value, value), |(least, most)| (least.min(value), most.max(value))));
    }
    let (least, most) = range?;
    let low = least.log10().floor() as i32;
    Some((low, (most.log10().ceil() as i32).max(low + 1)))
}

/// 1,000 as 1 k, a million as 1 M.
pub(crate) fn short(exponent: i32) -> String {
    let (zeros, unit) = match exponent {
        6.. => (exponent - 6, " M"),
        3.. => (exponent - 3, " k"),
        _ => (exponent.max(0), ""),
    };
    format!("1{}{unit}", "0".repeat(usize::try_from(zeros).unwrap_or(0)))
}

/// The chart of the README.
pub(crate) fn lifecycles(rows: &[Row]) -> String {
    let mut bars: Vec<(&Row, f64)> = systems(rows)
        .into_iter()
        .filter_map(|system| {
            Some((
                system,
                of(rows, system, Workload::Lifecycle, BATCHES)?
                    .per_second
                    .filter(|figure| *figure > 0.0)?,
            ))
        })
        .collect();
    bars.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    let height = TOP + STEP * bars.len().max(1) as f64 + 34.0;
    let mut svg =
        open(WIDTH, height, "Durable task lifecycles a second, batches of 100, logarithmic scale");
    label(&mut svg, (16.0, 26.0), "title", "start", "Task lifecycles a second (log scale)");
    label(
        &mut svg,
        (16.0, 43.0),
        "small",
        "start",
        "submit confirmed, delivered, completed with a result, confirmed; batches of 100",
    );
    let Some((low, high)) = decades(bars.iter().map(|(_, value)| *value)) else {
        label(&mut svg, (16.0, TOP + 20.0), "", "start", "Not measured.");
        return svg + "</svg>";
    };
    let bottom = height - 28.0;
    let place = |value: f64| {
        LEFT + (value.log10() - f64::from(low)) / f64::from(high - low) * (WIDTH - LEFT - RIGHT)
    };
    for exponent in low..=high {
        let x = place(10_f64.powi(exponent));
        grid(&mut svg, (x, TOP), (x, bottom));
        label(&mut svg, (x, bottom + 17.0), "small", "middle", &short(exponent));
    }
    for (number, (row, value)) in bars.iter().enumerate() {
        let y = TOP + STEP * number as f64 + 8.0;
        let is_ours = row.who.system.starts_with("Celeriac");
        let (class, colour) = if is_ours { ("ours", "#e8590c") } else { ("", "#5b8def") };
        label(&mut svg, (LEFT - 10.0, y + 9.0), class, "end", row.who.system);
        label(&mut svg, (LEFT - 10.0, y + 23.0), "small", "end", row.who.durability);
        // A value at the low end still has a visible bar.
        let width = (place(*value) - LEFT).max(2.0);
        let _ = writeln!(
            svg,
            r#"<rect x="{LEFT:.1}" y="{y:.1}" width="{width:.1}" height="{BAR}" rx="3" fill="{colour}"/>"#
        );
        label(&mut svg, (LEFT + width + 8.0, y + 16.0), class, "start", &grouped(*value));
    }
    svg + "</svg>"
}
