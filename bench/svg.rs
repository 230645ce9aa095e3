//! A drawing as SVG: bars, lines and text, in colours for light and for dark pages.
#![forbid(unsafe_code)]

use std::fmt::Write as _;

/// Colours are written out for both: not every program that shows SVG knows variables.
const STYLE: &str = "\
text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif}
.card{fill:#ffffff;stroke:#e4e2dc}.ink,.bold{fill:#1d2129}.bold{font-weight:600}
.dim{fill:#5b6474}.axis{stroke:#e4e2dc}.hole{fill:#ffffff}
.ringkeeper{fill:#0f766e;stroke:#0f766e}.ceiling{fill:#a8a29e;stroke:#a8a29e}
.apache{fill:#c2410c;stroke:#c2410c}rect.ringkeeper,rect.ceiling,rect.apache{stroke:none}
@media (prefers-color-scheme: dark){
.card{fill:#1c1f25;stroke:#2e323a}.ink,.bold{fill:#e9e7e2}.dim{fill:#a3acbb}
.axis{stroke:#343943}.hole{fill:#1c1f25}
.ringkeeper{fill:#2dd4bf;stroke:#2dd4bf}.ceiling{fill:#8f8a84;stroke:#8f8a84}
.apache{fill:#fb923c;stroke:#fb923c}}
";

/// Which point of a text stands at its x.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Anchor {
    /// Its left end.
    Start,
    /// Its middle.
    Middle,
}

/// A drawing that grows from the back to the front.
pub struct Drawing(String);

/// Text that cannot be mistaken for markup.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// About as wide as `text` gets at this size, in any of the usual fonts.
fn text_width(text: &str, size: f64) -> f64 {
    0.6 * size * text.chars().count() as f64
}

impl Drawing {
    /// A card of this size; `label` is for those who cannot see it.
    pub fn new(width: f64, height: f64, label: &str) -> Drawing {
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
             width=\"{width}\" height=\"{height}\" role=\"img\" aria-label=\"{}\">\n<style>\n\
             {STYLE}</style>\n",
            escape(label)
        );
        let _ = writeln!(
            svg,
            "<rect class=\"card\" x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{}\" rx=\"10\"/>",
            width - 1.0,
            height - 1.0
        );
        Drawing(svg)
    }

    /// Draws text with its baseline at `y`; returns about where it ends.
    pub fn text(
        &mut self,
        x: f64,
        y: f64,
        class: &str,
        size: f64,
        anchor: Anchor,
        text: &str,
    ) -> f64 {
        let (name, end) = match anchor {
            Anchor::Start => ("start", x + text_width(text, size)),
            Anchor::Middle => ("middle", x + text_width(text, size) / 2.0),
        };
        let _ = writeln!(
            self.0,
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" \
             text-anchor=\"{name}\">{}</text>",
            escape(text)
        );
        end
    }

    /// A filled bar in the colour of `class`.
    pub fn bar(&mut self, x: f64, y: f64, width: f64, height: f64, class: &str) {
        let _ = writeln!(
            self.0,
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" \
             height=\"{height:.1}\" rx=\"2\"/>"
        );
    }

    /// A thin line.
    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), class: &str) {
        let _ = writeln!(
            self.0,
            "<line class=\"{class}\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"/>",
            from.0, from.1, to.0, to.1
        );
    }

    /// A range: a ring where it begins, a dot within, a line to where it ends.
    pub fn span(&mut self, (begin, within, end): (f64, f64, f64), y: f64, class: &str) {
        let _ = writeln!(
            self.0,
            "<g class=\"{class}\"><line x1=\"{begin:.1}\" x2=\"{end:.1}\" y1=\"{y:.1}\" \
             y2=\"{y:.1}\" stroke-width=\"6\" stroke-linecap=\"round\" opacity=\"0.45\"/>\
             <circle cx=\"{within:.1}\" cy=\"{y:.1}\" r=\"3.5\"/></g>\
             <circle class=\"hole\" cx=\"{begin:.1}\" cy=\"{y:.1}\" r=\"4\"/>\
             <g class=\"{class}\"><circle cx=\"{begin:.1}\" cy=\"{y:.1}\" r=\"4\" \
             fill-opacity=\"0\" stroke-width=\"2\"/></g>"
        );
    }

    /// The file.
    pub fn finish(mut self) -> String {
        self.0.push_str("</svg>\n");
        self.0
    }
}

/// Texts of an SVG that reach over its left or right edge.
#[cfg(test)]
pub fn cut_off(svg: &str, width: f64) -> Vec<String> {
    let attribute = |tag: &str, name: &str| -> Option<String> {
        let (_, rest) = tag.split_once(&format!(" {name}=\""))?;
        rest.split_once('"').map(|(value, _)| value.to_owned())
    };
    let mut found = Vec::new();
    for part in svg.split("<text").skip(1) {
        let (tag, rest) = part.split_once('>').unwrap();
        let text = rest.split_once("</text>").unwrap().0;
        let x: f64 = attribute(tag, "x").unwrap().parse().unwrap();
        // The page's style sheet says 11.5 pixels for all of them.
        let size = attribute(tag, "font-size").map_or(11.5, |size| size.parse().unwrap());
        let length = text_width(text, size);
        let is_centred = attribute(tag, "text-anchor").as_deref() == Some("middle");
        let begin = if is_centred { x - length / 2.0 } else { x };
        if begin < 0.0 || begin + length > width {
            found.push(format!("{text}: {begin} to {}", begin + length));
        }
    }
    found
}
