import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { placeSchedule } from '../../../src/plan/schedules/index.ts';
import { formatForTorch, withTransfers } from '../../../src/plan/schedules/torch.ts';
import type { PlacedSchedule } from '../../../src/plan/schedules/types.ts';
import { request, requests } from './requests.ts';

test('the sender places the receive; weights are gathered before and gradients summed after', () => {
	expect(withTransfers(placeSchedule('1f1b', { ranks: 2, microBatches: 2 }))).toEqual([
		['0UNSHARD', '0F0', '0SEND_F0', '0F1', '0SEND_F1', '0RECV_B0', '0B0', '0RECV_B1', '0B1', '0REDUCE_GRAD', '0RESHARD'],
		['1UNSHARD', '1RECV_F0', '1F0', '1RECV_F1', '1B0', '1SEND_B0', '1F1', '1B1', '1SEND_B1', '1REDUCE_GRAD', '1RESHARD'],
	]);
});

test('stages of one rank send nothing to each other, nor gradients to a sweep ahead', () => {
	const folded = withTransfers(placeSchedule('zero-bubble', { ranks: 2, microBatches: 1, placement: 'folded' })).flat();
	expect(folded.filter((action) => /SEND/.test(action))).toEqual(['0SEND_F0', '3SEND_B0', '2SEND_F0', '1SEND_B0']);
	const swept = withTransfers(placeSchedule('1f1b', { ranks: 2, microBatches: 1, selfConditioning: true })).flat();
	expect(swept.filter((action) => /SEND/.test(action))).toEqual(['0SEND_F0', '2SEND_F0', '1SEND_F0', '3SEND_B0']);
});

/** Runs the rows with messages that block both ends until they meet; returns what is left. */
function rendezvous(rows: readonly (readonly string[])[]): string[] {
	const at = rows.map(() => 0);
	const message = (text: string | undefined) => /^(\d+)(SEND|RECV)_([FB])(\d+)$/.exec(text ?? '');
	for (let progress = true; progress; ) {
		progress = false;
		for (const [rank, row] of rows.entries()) {
			for (; at[rank]! < row.length && !message(row[at[rank]!]); at[rank]!++) progress = true;
			const mine = message(row[at[rank]!]);
			if (mine?.[2] !== 'SEND') continue;
			const other = rows.findIndex((theirs, i) => {
				const head = message(theirs[at[i]!]);
				return head?.[2] === 'RECV' && head[3] === mine[3] && head[4] === mine[4] && adjacent(mine, head);
			});
			if (other < 0) continue;
			at[rank]!++;
			at[other]!++;
			progress = true;
		}
	}
	return rows.flatMap((row, rank) => row.slice(at[rank]!));
}

/** Stage and receiver are neighbours in a chain; numbers of neighbours differ by one in every topology here. */
function adjacent(send: RegExpExecArray, receive: RegExpExecArray): boolean {
	return Number(receive[1]) - Number(send[1]) === (send[3] === 'F' ? 1 : -1);
}

test('messages that block both ends never wait for each other', () => {
	fc.assert(
		fc.property(request, ({ name, options }) => {
			expect(rendezvous(withTransfers(placeSchedule(name, options)))).toEqual([]);
		}),
	);
});

test('rows that wait for each other are refused', () => {
	const stuck: PlacedSchedule = {
		ranks: 1,
		stages: [{ rank: 0, next: 1 }, { rank: 0 }],
		rows: [
			[
				{ stage: 1, kind: 'F', micro: 0 },
				{ stage: 0, kind: 'F', micro: 0 },
			],
		],
	};
	expect(() => withTransfers(stuck)).toThrow('found: rank 0 at 1F0');
});

test("what PyTorch's runtime does not know is refused", () => {
	expect(() => formatForTorch(placeSchedule('bidirectional', { ranks: 2, microBatches: 2 }))).toThrow('found: 2 chains');
	expect(() => formatForTorch(placeSchedule('1f1b', { ranks: 2, microBatches: 2, selfConditioning: true }))).toThrow(
		'found: a sweep without backward',
	);
});

const python = process.env.DIFFUSIONPIPE_PYTHON;

/** Loads each case twice with the runtime's own code and prints what it makes of them; no process group is needed for that. */
const script = `
import json, os, sys
from torch.distributed.pipelining.schedules import _PipelineScheduleRuntime, _simulate_comms_compute
folder = sys.argv[1]
out = []
for case in json.load(open(os.path.join(folder, 'cases.json'))):
    def load(form):
        runtime = object.__new__(_PipelineScheduleRuntime)
        runtime.__dict__.update(pp_group_size=case['ranks'], _num_stages=case['stages'], _n_microbatches=case['micros'],
                                _stages=[], pipeline_order={}, _defer_pp_recv=False)
        runtime._load_csv(os.path.join(folder, case['name'] + '.' + form + '.csv'), form)
        rows = runtime.pipeline_order_with_comms
        plain = {r: [a for a in rows[r] if a.computation_type.value not in ('UNSHARD', 'RESHARD', 'REDUCE_GRAD')] for r in rows}
        _simulate_comms_compute(plain, lambda s: runtime.stage_index_to_group_rank[s], case['stages'])
        return [[str(a) for a in rows[r]] for r in sorted(rows)]
    out.append({'compute_only': load('compute_only'), 'compute_comms': load('compute_comms')})
print(json.dumps(out))
`;

describe.skipIf(python === undefined)('PyTorch (DIFFUSIONPIPE_PYTHON)', () => {
	test('loads every schedule of one chain, simulates it, and derives the same transfers', { timeout: 120_000 }, () => {
		const folder = mkdtempSync(join(tmpdir(), 'schedules-'));
		try {
			const cases = requests
				.filter(({ options }) => options.backbones !== 2 && options.selfConditioning === undefined)
				.map(({ name, options }, i) => ({ placed: placeSchedule(name, options), micros: options.microBatches, name: `${i}` }));
			expect(cases.length).toBeGreaterThan(10);
			for (const { placed, name } of cases) {
				for (const form of ['compute_only', 'compute_comms'] as const) {
					writeFileSync(join(folder, `${name}.${form}.csv`), formatForTorch(placed, form));
				}
			}
			const list = cases.map(({ placed, micros, name }) => ({ name, micros, ranks: placed.ranks, stages: placed.stages.length }));
			writeFileSync(join(folder, 'cases.json'), JSON.stringify(list));
			const text = execFileSync(python!, ['-c', script, folder], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
			const loaded = JSON.parse(text) as { compute_only: string[][]; compute_comms: string[][] }[];
			for (const [i, { placed }] of cases.entries()) {
				const rows = withTransfers(placed);
				expect(loaded[i]!.compute_only).toEqual(rows);
				expect(loaded[i]!.compute_comms).toEqual(rows);
			}
		} finally {
			rmSync(folder, { recursive: true });
		}
	});
});
