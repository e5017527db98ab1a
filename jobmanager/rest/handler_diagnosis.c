/* GET /jobs/:jobid/diagnosis: why nothing comes out of a job, in sentences (jobmanager/diagnosis). Thread: the loop. */
#include "jobmanager/diagnosis/diagnosis.h"
#include "jobmanager/rest/handlers.h"
#include "jobmanager/rest/views.h"

void handle_job_diagnosis(struct jobmanager *jobmanager, struct rest_request *request)
{
    const struct job *job = view_job(jobmanager, request);
    if (job == NULL)
        return;
    struct diagnosis diagnosis;
    diagnosis_make(jobmanager->coordinator, job, jobmanager_now_ms(jobmanager), &diagnosis);
    rest_reply_json(request, 200, diagnosis_to_json(&diagnosis));
    diagnosis_finish(&diagnosis);
}
