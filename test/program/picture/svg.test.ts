import sharp from 'sharp';
import { describe, expect, test } from 'vitest';
import { ticksOf } from '../../../src/program/picture/axis.ts';
import { escapeControls, escapeXml } from '../../../src/program/picture/escape.ts';
import { inkOn, paletteOf } from '../../../src/program/picture/palette.ts';
import { planSvg } from '../../../src/program/picture/plan-picture.ts';
import { timelineSvg } from '../../../src/program/picture/svg.ts';
import { planTimeline } from '../../../src/program/plan-timeline.ts';
import type { Span, Timeline } from '../../../src/program/timeline.ts';
import { deviceId } from '../../../src/program/types.ts';
import { sampleResult } from '../../helpers/plans.ts';

const timelineOf = (...spans: Span[]): Timeline => ({ devices: [{ device: deviceId(0), spans }] });
const run = (kind: 'F' | 'B' | 'I' | 'W', micro: number, start: number, end: number, more: Partial<Span> = {}): Span => ({
	name: `0${kind}${micro}`,
	kind: 'run',
	start,
	end,
	action: { stage: 0, kind, micro },
	...more,
});
/** Boxes as [title's first line, x, width, text]. */
const boxesOf = (svg: string) =>
	[
		...svg.matchAll(
			/<g class="s"[^>]*><title>([^\n<]*)[^<]*<\/title><rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)"[^>]*\/>(?:<text[^>]*>([^<]*)<\/text>)?<\/g>/g,
		),
	].map(([, title, x, width, text]) => [title, Number(x), Number(width), text] as const);

describe('an SVG', () => {
	test('puts boxes where their times are, to scale', () => {
		const svg = timelineSvg([{ name: '', timeline: timelineOf(run('F', 0, 10, 20), run('B', 0, 30, 50)) }]);
		const [, left, right] = /data-left="(\d+)" data-right="(\d+)" data-span="40"/.exec(svg)!.map(Number);
		const scale = (right! - left!) / 40;
		const [forward, backward] = boxesOf(svg);
		expect(forward).toEqual(['0F0: forward of micro-batch 0, stage 0', left, expect.closeTo(10 * scale - 1, 1), '0']);
		expect(backward![1]).toBeCloseTo(left! + 20 * scale, 1);
		expect(backward![2]).toBeCloseTo(20 * scale - 1, 1);
	});

	test('says how long what takes, from the start of the timeline', () => {
		const svg = timelineSvg([{ name: '', timeline: timelineOf(run('F', 3, 10, 20.25), run('B', 3, 30, 50)) }]);
		expect(svg).toContain('<title>0B3: backward of micro-batch 3, stage 0\n20 ms to 40 ms, takes 20 ms</title>');
	});

	test('writes into a box only what fits, and the stage where a device has several', () => {
		const two = run('F', 1, 40, 60, { name: '1F1', action: { stage: 1, kind: 'F', micro: 1 } });
		const texts = (...spans: Span[]) => boxesOf(timelineSvg([{ name: '', timeline: timelineOf(...spans) }])).map(([, , , text]) => text);
		expect(texts(run('F', 0, 0, 30), two)).toEqual(['0F0', '1F1']);
		expect(texts(run('F', 0, 0, 30), run('F', 1, 40, 60))).toEqual(['0', '1']);
		expect(texts(run('F', 12, 0, 0.1), run('F', 1, 40, 60))).toEqual(['', '1']);
	});

	test('draws panels below each other at one scale', () => {
		const svg = timelineSvg([
			{ name: 'predicted', timeline: timelineOf(run('F', 0, 0, 10)) },
			{ name: 'measured', timeline: timelineOf(run('F', 0, 100, 120)) },
		]);
		const [predicted, measured] = boxesOf(svg);
		expect(measured![1]).toBe(predicted![1]);
		expect((measured![2] + 1) / (predicted![2] + 1)).toBeCloseTo(2, 2);
		expect(svg.indexOf('>predicted<')).toBeLessThan(svg.indexOf('>measured<'));
	});

	test('keeps names text', async () => {
		const evil = `<script>alert("1")</script> & '\u0007\ud800|`;
		const result = sampleResult({ component: evil, backbone: evil });
		const svg = planSvg({ ...result, plan: { ...result.plan, profile: evil } });
		expect(svg).not.toContain('<script');
		expect(svg).toContain('&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt; &amp; &#39;\ufffd\ufffd');
		// A renderer refuses what is not well-formed.
		expect(await sharp(Buffer.from(svg)).metadata()).toMatchObject({ format: 'svg', width: 1200 });
	});

	test('shows its colours when rendered: boxes, hatched idle time, background', async () => {
		const svg = timelineSvg([{ name: '', timeline: timelineOf(run('F', 0, 0, 10), run('B', 0, 30, 40)) }]);
		const { data, info } = await sharp(Buffer.from(svg)).removeAlpha().raw().toBuffer({ resolveWithObject: true });
		const y = Number(/<rect class="s"[^>]* y="(\d+)"/.exec(svg)![1]) + 4;
		const [, left, right] = /data-left="(\d+)" data-right="(\d+)"/.exec(svg)!.map(Number);
		const pixel = (share: number, at: number) => {
			const i = (at * info.width + Math.round(left! + share * (right! - left!))) * 3;
			return `#${[...data.subarray(i, i + 3)].map((c) => c.toString(16).padStart(2, '0')).join('')}`;
		};
		const used = paletteOf([timelineOf(run('F', 0, 0, 10), run('B', 0, 30, 40))]).used;
		expect(pixel(0.05, y)).toBe(used.find(({ key }) => key === 'F 0')!.fill);
		expect(pixel(0.95, y)).toBe(used.find(({ key }) => key === 'B 0')!.fill);
		const idle = new Set(Array.from({ length: 40 }, (_, i) => pixel(0.4 + i / 500, y)));
		expect(idle.size).toBeGreaterThan(1);
		expect(pixel(0.5, 4)).toBe('#ffffff');
	});

	test('of nothing is still a picture', async () => {
		const svg = timelineSvg([{ name: '', timeline: { devices: [{ device: deviceId(0), spans: [] }] } }]);
		expect(svg).not.toMatch(/NaN|Infinity|undefined/);
		expect((await sharp(Buffer.from(svg)).metadata()).format).toBe('svg');
	});

	test('has a lane for what goes on beside work', () => {
		const result = sampleResult({ stages: 2, microBatches: 1, frozen: [] });
		const svg = timelineSvg([{ name: '', timeline: planTimeline(result) }]);
		const heights = (words: RegExp) =>
			[...svg.matchAll(/<title>([^<]*)<\/title><rect [^>]*height="(\d+)"/g)].flatMap(([, title, height]) =>
				words.test(title!) ? [height] : [],
			);
		// The last stage sends its gradient while its own are summed, and both show; the first has one thing at a time.
		expect(heights(/^send|^sum/)).toEqual(['6', '6', '3', '3']);
		expect(new Set(heights(/^\d[FB]\d/))).toEqual(new Set(['26']));
	});
});

describe('palettes', () => {
	test('give every backbone and frozen component colours of its own, named in the legend where there are several', () => {
		const { used } = paletteOf([
			timelineOf(
				run('F', 0, 0, 1, { part: 'base' }),
				run('F', 0, 1, 2, { part: 'upscaler' }),
				{ name: 'a', kind: 'frozen', start: 2, end: 3, part: 'vae' },
				{ name: 'b', kind: 'frozen', start: 3, end: 4, part: 'clip' },
				{ name: 'c', kind: 'recv', start: 4, end: 5 },
			),
		]);
		expect(used.map(({ label }) => label)).toEqual(['base forward', 'upscaler forward', 'frozen vae', 'frozen clip', 'idle']);
		expect(new Set(used.map(({ fill }) => fill)).size).toBe(5);
	});

	test('text stands out on every colour (contrast of at least 3.6)', () => {
		const kinds = (['F', 'B', 'I', 'W'] as const).flatMap((kind) => ['a', 'b', 'c'].map((part) => run(kind, 0, 0, 1, { part })));
		const frozen = Array.from({ length: 6 }, (_, i): Span => ({ name: 'x', kind: 'frozen', start: 0, end: 1, part: String(i) }));
		const channel = (c: number) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
		const luminance = (hex: string) =>
			[0.2126, 0.7152, 0.0722].reduce(
				(sum, weight, i) => sum + weight * channel(Number.parseInt(hex.slice(1 + 2 * i, 3 + 2 * i), 16) / 255),
				0,
			);
		for (const { fill, ink } of paletteOf([timelineOf(...kinds, ...frozen)]).used) {
			const [dark, light] = [luminance(fill), luminance(ink)].sort((a, b) => a - b);
			expect((light! + 0.05) / (dark! + 0.05), fill).toBeGreaterThan(3.6);
		}
		expect([inkOn('#000000'), inkOn('#ffffff')]).toEqual(['#ffffff', '#16202c']);
	});
});

describe('axes', () => {
	test.each([
		[0, 393, 12, [0, 50, 100, 150, 200, 250, 300, 350]],
		[0, 0.9, 5, [0, 0.2, 0.4, 0.6, 0.8]],
		[7, 23, 4, [10, 15, 20]],
		[5, 5, 4, []],
	])('%d to %d in at most %d steps', (from, to, most, ticks) => {
		expect(ticksOf(from, to, most)).toEqual(ticks);
	});
});

describe('escaping', () => {
	test('for XML: entities, and a mark for what may not stand there', () => {
		expect(escapeXml(`a<b>&"'\n\t\u0000\u001b\udc00\u{1f600}\uffff`)).toBe(
			'a&lt;b&gt;&amp;&quot;&#39;\n\t\ufffd\ufffd\ufffd\u{1f600}\ufffd',
		);
	});

	test('for terminals: no escape gets through', () => {
		expect(escapeControls('a\u001b[31mb\nc\u009bd\u2028')).toBe('a\ufffd[31mb\ufffdc\ufffdd\ufffd');
	});
});
