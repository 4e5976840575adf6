//! Draws a run: what a link takes, what is thought that it takes, and what is sent, over time.

use std::fmt::Write as _;
use std::time::Duration;

/// One moment of a run; bitrates in kbit/s.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) at: Duration,
    pub(crate) capacity: f64,
    pub(crate) estimate: f64,
    pub(crate) passed: f64,
}

const SIZE: (f64, f64) = (900.0, 360.0);
const MARGIN: f64 = 50.0;

/// Writes the samples as SVG if the environment variable `WEIR_PLOT` names a file.
pub(crate) fn write_if_asked(samples: &[Sample]) {
    let Some(path) = std::env::var_os("WEIR_PLOT") else { return };
    let end = samples.last().unwrap().at.as_secs_f64();
    let top = samples.iter().map(|sample| sample.capacity.max(sample.estimate)).fold(0.0, f64::max) * 1.1;
    let x = |at: f64| MARGIN + at / end * (SIZE.0 - 2.0 * MARGIN);
    let y = |rate: f64| SIZE.1 - MARGIN - rate / top * (SIZE.1 - 2.0 * MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        SIZE.0, SIZE.1
    );
    for kbps in (0..top as usize).step_by(500) {
        let at = y(kbps as f64);
        let (left, right) = (MARGIN, SIZE.0 - MARGIN);
        writeln!(svg, "<path d=\"M{left} {at:.1}H{right}\" stroke=\"#ddd\"/>").unwrap();
        writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{kbps}</text>",
            left - 6.0,
            at + 4.0
        )
        .unwrap();
    }
    for second in (0..=end as usize).step_by(10) {
        let (at, bottom) = (x(second as f64), SIZE.1 - MARGIN + 18.0);
        writeln!(svg, "<text x=\"{at:.1}\" y=\"{bottom}\" text-anchor=\"middle\">{second} s</text>").unwrap();
    }
    type Rate = fn(&Sample) -> f64;
    let lines: [(&str, &str, Rate); 3] = [
        ("capacity of the link (kbit/s)", "#888", |sample| sample.capacity),
        ("estimate", "#d62728", |sample| sample.estimate),
        ("passed the link", "#1f77b4", |sample| sample.passed),
    ];
    for (index, (name, colour, rate)) in lines.into_iter().enumerate() {
        let points =
            samples.iter().map(|sample| format!("{:.1},{:.1}", x(sample.at.as_secs_f64()), y(rate(sample))));
        let points = points.collect::<Vec<_>>().join(" ");
        writeln!(
            svg,
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>"
        )
        .unwrap();
        let left = MARGIN + 220.0 * index as f64;
        writeln!(svg, "<text x=\"{left}\" y=\"24\" fill=\"{colour}\">{name}</text>").unwrap();
    }
    svg.push_str("</svg>\n");
    std::fs::write(path, svg).unwrap();
}
