/**
 * @file Schedules as torch.distributed.pipelining runs them: compute actions with the sends and receives between ranks, the gathering of sharded
 * weights and the sums of gradients.
 */
import { DiffusionPipeError } from '../../core/errors.ts';
import { formatAction, formatSchedule } from './text.ts';
import { chainsOf, previousOf } from './topology.ts';
import type { Action, PlacedSchedule, StagePlace } from './types.ts';

/** The most stages of a rank whose sharded weights are gathered at one time: those of the next actions. */
const gathered = 3;

/**
 * The rows in PyTorch's full grammar. After an action whose result another rank needs comes its send (`0SEND_F3`, `2SEND_B1`), and the receiver's row
 * gets the receive at the same moment (`1RECV_F3`, `1RECV_B1`): with all rows written in one order of time, ranks that post their messages in the order
 * of their rows cannot wait for each other, even if every message blocks both ends. `0UNSHARD` comes before a stage's actions and `0RESHARD` after
 * them, with three stages at one time; `0REDUCE_GRAD` after a stage's last backward. Throws an input error when the rows wait for each other.
 */
export function withTransfers({ stages, rows }: PlacedSchedule): string[][] {
	const previous = previousOf(stages);
	const waiting = rows.map((row) => withSharding(withSums(row)));
	const out: string[][] = rows.map(() => []);
	const at = new Int32Array(rows.length);
	const done = new Set<string>();
	for (let progress = true; progress; ) {
		progress = false;
		for (const [rank, row] of waiting.entries()) {
			const step = row[at[rank]!];
			if (step === undefined || (typeof step !== 'string' && !ready(step, stages, previous, done))) continue;
			progress = true;
			at[rank]!++;
			if (typeof step === 'string') {
				out[rank]!.push(step);
				continue;
			}
			out[rank]!.push(formatAction(step));
			if (step.kind !== 'W') done.add(resultOf(step));
			const to = receiverOf(step, stages, previous);
			if (to === undefined || stages[to]!.rank === rank) continue;
			const direction = step.kind === 'F' ? 'F' : 'B';
			out[rank]!.push(`${step.stage}SEND_${direction}${step.micro}`);
			out[stages[to]!.rank]!.push(`${to}RECV_${direction}${step.micro}`);
		}
	}
	const stuck = waiting.flatMap((row, rank) => (at[rank]! < row.length ? [`rank ${rank} at ${format(row[at[rank]!]!)}`] : []));
	if (stuck.length > 0) {
		throw new DiffusionPipeError('input', 'the rows wait for each other', {
			place: 'schedule',
			expected: 'an order in which every action finds its inputs',
			found: stuck.join('; '),
		});
	}
	return out;
}

/**
 * The CSV that `_PipelineScheduleRuntime._load_csv` of PyTorch 2 reads, a row per rank: `compute_only`, from which PyTorch derives the transfers itself,
 * or `compute_comms` with those of `withTransfers`. Throws an input error where its runtime cannot run the stages: it knows one chain in the order of
 * their numbers, every stage with a backward.
 */
export function formatForTorch(placed: PlacedSchedule, format: 'compute_only' | 'compute_comms' = 'compute_only'): string {
	const { stages, rows } = placed;
	const found = stages.some((stage) => stage.forwardOnly)
		? 'a sweep without backward'
		: chainsOf(stages).length > 1
			? `${chainsOf(stages).length} chains`
			: stages.some(({ next }, i) => next !== undefined && next !== i + 1)
				? 'other numbers'
				: undefined;
	if (found !== undefined) {
		throw new DiffusionPipeError('input', "stages that PyTorch's pipeline runtime does not know", {
			place: 'schedule',
			expected: 'one chain of stages in the order of their numbers, each with a backward',
			found,
			hint: 'a schedule of one backbone without self-conditioning',
		});
	}
	return format === 'compute_only'
		? formatSchedule(rows)
		: withTransfers(placed)
				.map((row) => `${row.join(',')}\n`)
				.join('');
}

/** An action, or what comes between them, as text. */
type Step = Action | string;

function format(step: Step): string {
	return typeof step === 'string' ? step : formatAction(step);
}

/** `REDUCE_GRAD` after the last B or W of each stage. */
function withSums(row: readonly Action[]): Step[] {
	const last = new Map<number, Action>();
	for (const action of row) if (action.kind === 'B' || action.kind === 'W') last.set(action.stage, action);
	return row.flatMap((action) => (last.get(action.stage) === action ? [action, `${action.stage}REDUCE_GRAD`] : [action]));
}

/** Weights are gathered before a stage is among the next few, and let go when it no longer is. */
function withSharding(row: readonly Step[]): Step[] {
	const out: Step[] = [];
	let held: number[] = [];
	for (const [i, step] of row.entries()) {
		if (typeof step !== 'string') {
			const next = nextStages(row, i);
			for (const stage of held) if (!next.includes(stage)) out.push(`${stage}RESHARD`);
			for (const stage of next) if (!held.includes(stage)) out.push(`${stage}UNSHARD`);
			held = next.toSorted((a, b) => a - b);
		}
		out.push(step);
	}
	return [...out, ...held.map((stage) => `${stage}RESHARD`)];
}

function nextStages(row: readonly Step[], from: number): number[] {
	const found: number[] = [];
	for (let i = from; i < row.length && found.length < gathered; i++) {
		const step = row[i]!;
		if (typeof step !== 'string' && !found.includes(step.stage)) found.push(step.stage);
	}
	return found;
}

function resultOf({ stage, kind, micro }: Action): string {
	return `${stage}${kind === 'F' ? 'F' : 'B'}${micro}`;
}

function ready({ stage, kind, micro }: Action, stages: readonly StagePlace[], previous: Int32Array, done: ReadonlySet<string>): boolean {
	const from = kind === 'F' ? previous[stage]! : kind === 'W' ? -1 : (stages[stage]!.next ?? -1);
	return from < 0 || done.has(`${from}${kind === 'F' ? 'F' : 'B'}${micro}`);
}

/** The stage that takes the action's result. */
function receiverOf({ stage, kind }: Action, stages: readonly StagePlace[], previous: Int32Array): number | undefined {
	if (kind === 'F') return stages[stage]!.next;
	const before = kind === 'W' ? -1 : previous[stage]!;
	return before < 0 || stages[before]!.forwardOnly ? undefined : before;
}
