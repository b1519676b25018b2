import { describe, expect, test } from 'vitest';
import { pageScript } from '../../../src/program/picture/page-script.ts';
import { planPage } from '../../../src/program/picture/plan-picture.ts';
import {
	alternativesTable,
	baselineTable,
	devicesText,
	planFigures,
	planHeadline,
	rangeText,
	scheduleText,
	stageTable,
} from '../../../src/program/picture/plan-tables.ts';
import { planTimeline } from '../../../src/program/plan-timeline.ts';
import { sampleResult } from '../../helpers/plans.ts';

const result = sampleResult({ replicas: 2, pipelines: 2 });

describe('a plan in words', () => {
	test('the headline says how the devices are divided', () => {
		expect(planHeadline(result.plan)).toBe('2 pipelines of 4 stages on 2 devices each, 8 micro-batches, 1f1b');
		const { plan } = sampleResult({ stages: 1, microBatches: 1 });
		expect(planHeadline({ ...plan, warmup: 'deep', recompute: true })).toBe(
			'one pipeline of 1 stage, 1 micro-batch, 1f1b (deep warm-up, recomputed)',
		);
		const uneven = plan.stages.concat({ ...plan.stages[0]!, replicas: 3 });
		expect(planHeadline({ ...plan, stages: uneven })).toContain('2 stages on 1+3 devices each');
	});

	test('figures name the gap to the bound and what is filled', () => {
		const figures = Object.fromEntries(planFigures(result).map(({ name, value, note }) => [name, [value, note]]));
		expect(figures['lower bound']![1]).toBe('the plan is 5.3 % above it');
		expect(figures.bubble).toEqual([expect.stringMatching(/^34\.\d % to \d+\.\d %$/), '48 frozen layers filled in (first fit)']);
		const unfilled = planFigures(sampleResult({ frozenMs: 25, frozen: [] }));
		expect(unfilled[0]!.note).toMatch(/and 25 ms of frozen work before it$/);
		expect(unfilled[2]!.note).toBe('no frozen work is filled in');
	});

	test('stages name their layers and devices, and their backbone where there are two', () => {
		expect(stageTable(result.plan).rows[1]!.cells).toEqual(['1', '1', '4-7', '2-3, 10-11', '11 ms', '20 ms', '6 ms']);
		const two = stageTable({ ...result.plan, stages: [...result.plan.stages, { ...result.plan.stages[0]!, backbone: 'upscaler' }] });
		expect(two.columns[1]).toBe('backbone');
		expect(two.rows.at(-1)!.cells[1]).toBe('upscaler');
	});

	test('alternatives: the plan first and marked, bars in proportion to time', () => {
		const { rows, columns } = alternativesTable(result);
		expect(rows.map(({ chosen }) => chosen)).toEqual([true, undefined]);
		expect(rows.map(({ share }) => share)).toEqual([expect.closeTo(1 / 1.12, 12), 1]);
		expect(rows[1]!.cells[columns.indexOf('schedule')]).toBe('gpipe (deep warm-up, recomputed)');
		expect(rows[0]!.cells).toHaveLength(columns.length);
	});

	test('baselines: how much faster the plan is, or that it does not fit', () => {
		const { rows } = baselineTable(result);
		expect(rows.map(({ cells }) => cells[0])).toEqual(['this plan', 'data parallel', 'data parallel, no recomputation']);
		expect(rows[1]!.cells[3]).toBe('1.30 x');
		expect(rows[2]!.cells[1]).toBe('does not fit');
		expect(rows[2]!.share).toBeUndefined();
		expect(rows[1]!.share).toBe(1);
	});

	test.each([
		[[3], '3'],
		[[0, 1, 2, 5, 7, 8], '0-2, 5, 7-8'],
		[[2, 0, 1], '0-2'],
		[[], ''],
	])('devices %j are %j', (devices, text) => {
		expect(devicesText(devices)).toBe(text);
	});

	test('ranges and schedules', () => {
		expect([rangeText([0, 1]), rangeText([4, 9])]).toEqual(['0', '4-8']);
		expect(scheduleText({ schedule: '1f1b', warmup: 'usual', placement: 'folded', layout: 'copies', recompute: false })).toBe(
			'1f1b (folded, copies side by side)',
		);
	});
});

describe('a page', () => {
	test('holds figures, timeline and tables, and loads nothing', () => {
		const page = planPage(result);
		for (const words of ['sample: batch 512 on 16 devices', 'Alternatives', 'Other ways of training the same job', 'Stages', '0F0,0F1'])
			expect(page).toContain(words);
		expect(page).toContain("default-src 'none'");
		expect(page.replaceAll('http://www.w3.org/2000/svg', '')).not.toMatch(/https?:|\bsrc=|\bhref=|@import|url\((?!#)/);
		expect(page.replace(pageScript, '')).not.toMatch(/undefined|NaN/);
		expect(page).toContain('first of 2 equal pipelines');
	});

	test('shows predicted above measured', () => {
		const page = planPage(result, { measured: planTimeline(result) });
		expect(page.indexOf('>predicted<')).toBeGreaterThan(0);
		expect(page.indexOf('>measured<')).toBeGreaterThan(page.indexOf('>predicted<'));
		expect(planPage(result)).not.toContain('>predicted<');
	});

	test('names stay text wherever they stand', () => {
		const evil = `</title></script><img onerror="x">`;
		const evilResult = sampleResult({ component: evil, backbone: evil, schedule: '1f1b' });
		const plan = {
			...evilResult.plan,
			profile: evil,
			rows: [evil],
			stages: [...evilResult.plan.stages, { ...evilResult.plan.stages[0]!, backbone: 'b' }],
		};
		const page = planPage({ ...evilResult, plan, baselines: [{ ...evilResult.baselines[0]!, name: evil, detail: evil }] });
		expect(page).not.toContain('<img');
		expect(page.match(/<\/title>/g)!.length).toBe(page.match(/<title>/g)!.length);
		expect(page.match(/<\/script>/g)).toHaveLength(1);
		expect(page.match(/&lt;img onerror=&quot;x&quot;&gt;/g)!.length).toBeGreaterThan(5);
	});

	test('its script is valid and cannot be ended from within', () => {
		expect(() => new Function(pageScript)).not.toThrow();
		expect(pageScript).not.toContain('</');
		expect(pageScript).not.toMatch(/innerHTML|eval|insertAdjacent/);
	});
});
