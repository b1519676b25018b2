/** @file `diffusionpipe simulate`: a plan walked again, with its own costs or others, or a division of one's own. */
import { formatBytes, formatMs } from '../../core/units.ts';
import { type Args, type Context, defineCommand, type Outcome } from '../command.ts';
import { createConsole } from '../console.ts';
import { jobOptions, outputOptions, shapeOptions } from '../plan/job-options.ts';

const options = {
	split: { kind: 'text', value: '3,7', summary: 'In place of a plan: first layer of each stage but the first (3,7;2,5 for two backbones)' },
	...jobOptions,
	...shapeOptions,
	...outputOptions,
} as const;

export const simulate = defineCommand({
	name: 'simulate',
	summary: 'Walk a plan, with other costs or with cuts of your own',
	usage: '[plan folder|plan.json|job]',
	options,
	examples: [
		['simulate plans/a --cluster slower.json', 'what the plan takes when the links are as in slower.json; its idle time is filled again'],
		[
			'simulate --profile p.json --cluster c.json --batch 256 --schedule gpipe --micro-batches 8 --split 3,7',
			'what three stages cut by hand take',
		],
		[
			'simulate sd21 --accelerator A100-80 --batch 64 --split 24 --micro-batches 4 --out two.html',
			'the same for a published job, as a page',
		],
	],
	run,
});

async function run({ positional, options: given }: Args<typeof options>, context: Context): Promise<Outcome> {
	const console = createConsole(given, context);
	const [{ givenWalk }, { outputTo }, { simulatePlan }, { memoryOverTime, planStageBytes }, { planDocument }, { frozenBefore }] =
		await Promise.all([
			import('../plan/walk.ts'),
			import('../plan/outputs.ts'),
			import('../../plan/search/simulate-plan.ts'),
			import('../../plan/memory.ts'),
			import('../../plan/plan-json.ts'),
			import('../../program/plan-timeline.ts'),
		]);
	const write = given.out === undefined ? undefined : outputTo(given.out, context.cwd);
	const walk = await givenWalk(positional[0], given, context.cwd, console.note);
	const { profile, cluster, plannedMs } = walk;
	const answer = simulatePlan(walk.plan, profile, cluster, given.effort ?? 1);
	const { plan } = answer;
	const memory = memoryOverTime(planStageBytes(plan, profile), answer.timeline, frozenBefore(answer));
	const most = Math.max(0, ...plan.peakBytes);
	const fits = most <= cluster.memoryBytes;
	const written = (await write?.({ ...answer, rows: [], baselines: plan.baselines }, walk)) ?? [];
	console.json({ plan: planDocument(plan), fits, memory: memory.map((steps, rank) => ({ rank, steps })) });
	if (!given.json) {
		const { memoryLines, planLines, timelineLines } = await import('../plan/show.ts');
		const style = console.printStyle;
		const screen = { output: context.stdout, env: context.env, style };
		const ratio = plannedMs === undefined || plannedMs === 0 ? undefined : plan.iterationMs / plannedMs - 1;
		const change =
			ratio === undefined
				? []
				: [
						`planned with ${formatMs(plannedMs!)}, now ${formatMs(plan.iterationMs)} (${ratio < 0 ? '' : '+'}${(100 * ratio).toFixed(1)} %)`,
						'',
					];
		const full = fits ? [] : [style.yellow(`does not fit: a device needs ${formatBytes(most)} of ${formatBytes(cluster.memoryBytes)}`), ''];
		console.print(
			...planLines(answer, screen),
			...change,
			...full,
			...timelineLines(answer, profile.frozen, screen),
			'',
			...memoryLines(answer, memory, cluster.memoryBytes, screen),
		);
	}
	for (const path of written) console.note(`wrote ${path}`);
	return 'done';
}
