//! A sale's picture. The log has none of its own, so one is drawn from its number: always the same for
//! the same sale, and not that of its neighbours.

use seckill_domain::VoucherId;

/// Colours a turn of the golden angle apart are never near each other for long.
const GOLDEN_ANGLE: i64 = 137;

/// SVG without styles of its own, which the Content-Security-Policy would not let in.
pub(super) fn of(voucher: VoucherId) -> String {
    let id = voucher.get();
    let hue = id.rem_euclid(360) * GOLDEN_ANGLE % 360;
    let other = (hue + 40) % 360;
    let x = 50 + id.rem_euclid(7) * 10;
    let y = 30 + id.rem_euclid(5) * 8;
    let turn = id.rem_euclid(12) * 15;
    format!(
        "<svg class=\"picture\" viewBox=\"0 0 240 96\" aria-hidden=\"true\" focusable=\"false\">\
         <rect width=\"240\" height=\"96\" fill=\"hsl({hue} 60% 82%)\"/>\
         <circle cx=\"{x}\" cy=\"{y}\" r=\"52\" fill=\"hsl({other} 65% 68%)\"/>\
         <rect x=\"140\" y=\"24\" width=\"56\" height=\"56\" rx=\"8\" fill=\"hsl({hue} 55% 42%)\" transform=\"rotate({turn} 168 52)\"/>\
         <circle cx=\"168\" cy=\"52\" r=\"10\" fill=\"hsl({other} 80% 92%)\"/></svg>"
    )
}
