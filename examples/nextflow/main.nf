// nextflow run main.nf --inputs 'genomes/*.fna.gz' --shards 32

nextflow.enable.dsl = 2

include { FEATURIZE; MERGE; ENCODE } from './kvae.nf'

params.inputs = 'genomes/*'
params.shards = 32
params.out = 'results'

workflow {
    // All files go to every shard, which reads its own share of them.
    inputs = Channel.fromPath(params.inputs, checkIfExists: true).collect()
    numbers = Channel.of(1..(params.shards as int)).map { index -> tuple(index, params.shards as int) }
    FEATURIZE(numbers, inputs)
    MERGE(FEATURIZE.out.shard.flatten().collect())
    ENCODE(MERGE.out.features)
    ENCODE.out.latents.subscribe { file -> file.copyTo("${params.out}/latent.arrow") }
}
