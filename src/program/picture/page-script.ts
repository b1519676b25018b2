/** @file What moves in a timeline page: plain JavaScript for browsers, put into the page as it stands. */

/**
 * Zooms (buttons, the keys + - 0, Ctrl and wheel), moves (drag, arrow keys) and explains (pointing at a box) the picture of `timelineSvg` in the page. It
 * reads only the data attributes that the picture carries, and writes text as text.
 */
export const pageScript = `(() => {
	'use strict';
	const svg = document.querySelector('svg.timeline');
	const tip = document.getElementById('tip');
	const left = +svg.dataset.left, right = +svg.dataset.right, all = +svg.dataset.span;
	const boxes = [...svg.querySelectorAll('.s')];
	const lines = [...svg.querySelectorAll('line.at')];
	const grids = [...svg.querySelectorAll('g.grid')], axes = [...svg.querySelectorAll('g.axis')];
	let from = 0, to = all;
	if (!(all > 0)) return;
	for (const box of boxes) {
		const title = box.querySelector('title');
		if (!title) continue;
		box.dataset.tip = title.textContent;
		box.setAttribute('aria-label', title.textContent);
		title.remove();
	}
	const make = (name, attributes, text) => {
		const element = document.createElementNS('http://www.w3.org/2000/svg', name);
		for (const key in attributes) element.setAttribute(key, attributes[key]);
		if (text !== undefined) element.textContent = text;
		return element;
	};
	const ticks = () => {
		const least = ((to - from) * 80) / (right - left), power = 10 ** Math.floor(Math.log10(least));
		const step = power * [1, 2, 5, 10].find((m) => m * power >= least * (1 - 1e-9));
		const marks = [];
		for (let i = Math.ceil(from / step - 1e-9); i * step <= to + step * 1e-9; i++) marks.push(+(i * step).toPrecision(12));
		return marks;
	};
	const draw = () => {
		const scale = (right - left) / (to - from), x = (ms) => left + (ms - from) * scale;
		for (const box of boxes) {
			const a = x(+box.dataset.a), b = x(+box.dataset.b), wide = b - a;
			const away = b < left || a > right;
			box.style.display = away ? 'none' : '';
			if (away) continue;
			const rect = box.tagName === 'rect' ? box : box.querySelector('rect');
			rect.setAttribute('x', a);
			rect.setAttribute('width', Math.max(0, rect === box ? wide : wide - Math.min(1, wide / 8)));
			const text = box.querySelector('text');
			if (!text) continue;
			const seen = [Math.max(a, left), Math.min(b, right)];
			text.setAttribute('x', (seen[0] + seen[1]) / 2);
			text.textContent = text.dataset.w.split('|').find((w) => w.length * 6.3 + 5 <= seen[1] - seen[0]) || '';
		}
		for (const line of lines) { line.setAttribute('x1', x(+line.dataset.a)); line.setAttribute('x2', x(+line.dataset.a)); }
		const marks = ticks();
		for (const grid of grids) grid.replaceChildren(...marks.map((ms) => make('line', { x1: x(ms), x2: x(ms), y1: grid.dataset.y, y2: grid.dataset.to, stroke: '#e3e8ee' })));
		for (const axis of axes) axis.replaceChildren(...marks.map((ms, i) => make('text', { x: x(ms), y: axis.dataset.y }, ms + (i === 0 || i === marks.length - 1 ? ' ms' : ''))));
	};
	const show = (a, b) => {
		const wide = Math.min(all, Math.max(all / 2000, b - a));
		from = Math.min(Math.max(0, a), all - wide);
		to = from + wide;
		draw();
	};
	const zoom = (factor, at = (from + to) / 2) => show(at - (at - from) * factor, at + (to - at) * factor);
	const timeAt = (event) => {
		const frame = svg.getBoundingClientRect();
		const x = ((event.clientX - frame.left) * svg.viewBox.baseVal.width) / frame.width;
		return from + ((x - left) / (right - left)) * (to - from);
	};
	const act = { in: () => zoom(0.5), out: () => zoom(2), all: () => show(0, all) };
	for (const button of document.querySelectorAll('button[data-zoom]')) button.addEventListener('click', () => act[button.dataset.zoom]());
	svg.setAttribute('tabindex', '0');
	svg.addEventListener('wheel', (event) => {
		if (!event.ctrlKey && !event.metaKey) return;
		event.preventDefault();
		zoom(event.deltaY < 0 ? 0.8 : 1.25, timeAt(event));
	}, { passive: false });
	svg.addEventListener('keydown', (event) => {
		const step = (to - from) / 10;
		const keys = { '+': act.in, '=': act.in, '-': act.out, 0: act.all, ArrowLeft: () => show(from - step, to - step), ArrowRight: () => show(from + step, to + step) };
		if (!keys[event.key]) return;
		event.preventDefault();
		keys[event.key]();
	});
	let drag;
	svg.addEventListener('pointerdown', (event) => { if (to - from < all) { drag = timeAt(event); svg.setPointerCapture(event.pointerId); } });
	svg.addEventListener('pointermove', (event) => {
		if (drag !== undefined) { const by = drag - timeAt(event); show(from + by, to + by); }
		const box = drag === undefined && event.target.closest ? event.target.closest('.s[data-tip]') : null;
		tip.hidden = !box;
		if (!box) return;
		tip.textContent = box.dataset.tip;
		tip.style.left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8) + 'px';
		tip.style.top = Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 8) + 'px';
	});
	const drop = () => { drag = undefined; };
	svg.addEventListener('pointerup', drop);
	svg.addEventListener('pointercancel', drop);
	svg.addEventListener('pointerleave', () => { tip.hidden = true; });
	svg.addEventListener('dblclick', act.all);
	document.body.classList.add('live');
})();`;
