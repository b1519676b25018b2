/** @file `diffusionpipe compare`: what a plan predicted beside what a run of it measured. */
import { type Args, type Context, defineCommand, type Outcome } from '../command.ts';
import { createConsole } from '../console.ts';

const options = {
	plan: { kind: 'text', value: 'p.json', summary: 'Plan, in place of that of the run' },
	timeline: { kind: 'text', value: 't.json', summary: 'Measured step, in place of that of the run' },
	profile: { kind: 'text', value: 'p.json', summary: 'Profile that the plan was made from; beside the plan unless given' },
	cluster: { kind: 'text', value: 'c.json', summary: 'Cluster that it was made for; beside the plan unless given' },
	out: {
		kind: 'text',
		value: 'folder|file',
		summary: 'Write both timelines into a folder, or as one file by its ending: .json .svg .html .trace.json',
	},
} as const;

export const compare = defineCommand({
	name: 'compare',
	summary: 'Show what a plan predicted beside what its run measured',
	usage: '[run folder]',
	options,
	examples: [
		['compare runs/emoji', 'where the time of a traced step went, and where the plan expected it to go'],
		['compare runs/emoji --out emoji.html', 'the same as a page, the prediction above the measurement'],
		['compare --plan plans/a/plan.json --timeline runs/a/timeline.json --json', 'a plan of your own beside a measured step, for programs'],
	],
	run,
});

async function run({ positional, options: given }: Args<typeof options>, context: Context): Promise<Outcome> {
	const console = createConsole(given, context);
	const [{ readCompared }, { compareDocument, compareLines }, { json, outputOf }, pictures, { toChromeTrace }, { planTimeline }] =
		await Promise.all([
			import('../compare/read.ts'),
			import('../compare/show.ts'),
			import('../plan/outputs.ts'),
			import('../../program/picture/compare-picture.ts'),
			import('../../program/chrome-trace.ts'),
			import('../../program/plan-timeline.ts'),
		]);
	const { comparePage, compareSvg } = pictures;
	const write =
		given.out === undefined
			? undefined
			: outputOf<Awaited<ReturnType<typeof readCompared>>>(given.out, context.cwd, {
					name: 'compare',
					writers: {
						'.trace.json': (all) =>
							`${JSON.stringify(
								toChromeTrace(
									all.flatMap((each) => [
										{ name: `predicted${pictures.kindSuffix(each)}`, timeline: planTimeline(each.answer, each.frozen) },
										{ name: `measured${pictures.kindSuffix(each)}`, timeline: each.measured },
									]),
								),
							)}\n`,
						'.json': (compared) => json(compareDocument(compared)),
						'.svg': compareSvg,
						'.html': comparePage,
					},
				});
	const compared = await readCompared(positional[0], given, context.cwd);
	const written = (await write?.(compared)) ?? [];
	console.json(compareDocument(compared));
	if (!given.json) console.print(...compareLines(compared, { output: context.stdout, env: context.env, style: console.printStyle }));
	for (const path of written) console.note(`wrote ${path}`);
	return 'done';
}
