# A batch as a step of an Earth observation platform (OGC 20-089): the folder of a STAC catalog in, the folder of one out.
# cwltool deploy/tocsin-batch.cwl --catalog scenes/
cwlVersion: v1.2
class: CommandLineTool
id: tocsin-batch
label: Flood, landslide and volcano maps of the scenes of a STAC catalog
doc: |
  Scores every item of `catalog.json` in the folder `catalog`. The folder `products` holds a STAC catalog of the
  products, report.html, report.parquet and ranking.geojson; `result` is what the command prints with --json.

baseCommand: [tocsin, batch]
arguments:
  - position: 1
    valueFrom: $(inputs.catalog.path)/catalog.json
  - position: 2
    valueFrom: products
    prefix: --out
  - position: 3
    valueFrom: --json

inputs:
  catalog:
    type: Directory
    doc: Holds catalog.json; its items say their hazard as tocsin:hazard, else `hazard` does.
  hazard:
    type:
      - "null"
      - type: enum
        symbols: [flood, landslide, volcano]
    inputBinding: {position: 4, prefix: --hazard}
  zones:
    type: File?
    doc: Polygons, for statistics in each.
    inputBinding: {position: 4, prefix: --zones}
  workers:
    type: int?
    doc: Processes; one a core by default.
    inputBinding: {position: 4, prefix: --workers}
  memory:
    type: string?
    doc: What a worker may hold, as 1.5GB.
    inputBinding: {position: 4, prefix: --memory}
  model_repository:
    type: Directory?
    doc: The shipped models by default.
    inputBinding: {position: 4, prefix: --model-repository}

outputs:
  products:
    type: Directory
    outputBinding: {glob: products}
  result:
    type: stdout
stdout: result.json

# 7: the batch is done and some scenes failed; the report says which. What can pass (5) or was interrupted (6) may be
# run again.
successCodes: [0, 7]
temporaryFailCodes: [5, 6]

hints:
  ResourceRequirement:
    coresMin: 1
    ramMin: 2048
  SoftwareRequirement:
    packages:
      tocsin: {version: ["0.1.0"]}
